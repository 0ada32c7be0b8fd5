// How much a service may say: so many bytes and lines in a second, and as much again at once after a silence. What it says
// beyond that waits in its pipe, and in the end the service does. Knows no descriptors; `now` is milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace forkbeard::shim {

class Allowance {
 public:
  // 0: as many as it likes.
  void Set(int64_t bytes, int64_t lines, int64_t now);
  // It has said this. Returns for how many ms nothing of it is to be read; 0: it may go on.
  int64_t Take(const char* said, size_t size, int64_t now);

 private:
  // Of one kind. In thousandths, so that a millisecond adds a whole number of them; below zero it is owed.
  struct Budget {
    int64_t rate = 0;
    int64_t left = 0;

    void Refill(int64_t elapsed);
    int64_t Spend(int64_t count);
  };

  Budget bytes_;
  Budget lines_;
  int64_t at_ = 0;
};

}  // namespace forkbeard::shim
