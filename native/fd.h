// Fd: a file descriptor that somebody owns. Closed once, when its owner goes.
#pragma once

#include <unistd.h>

#include <utility>

namespace forkbeard {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { Reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  // Gives the number away without closing it: to a new owner, or because it is not ours any more
  // (a kqueue after a fork: the kernel closed it, and the number may be somebody else's by now).
  int Release() { return std::exchange(fd_, -1); }
  // close(2) is never repeated after EINTR: on Linux the number is free by then.
  void Reset(int fd = -1) {
    int old = std::exchange(fd_, fd);
    if (old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace forkbeard
