// Wakeup: makes a sleeping loop return, from another thread or from a signal handler. An eventfd; a pipe where the
// kernel has none.
#pragma once

#include "fd.h"

namespace forkbeard {

class Wakeup {
 public:
  // 0, or a negative errno.
  int Open();
  // A new object behind the same descriptor numbers: a signal handler may be using them at this very moment, and the
  // old object belongs to the parent as well after a fork.
  int Reopen();

  // Readable after Signal.
  int fd() const { return read_.get(); }
  // Async-signal-safe, keeps errno.
  void Signal() const;
  void Drain() const;

 private:
  Fd read_;
  Fd write_;  // empty when one descriptor does both
};

}  // namespace forkbeard
