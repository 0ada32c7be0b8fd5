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

  // The same under other numbers: the present ones are not ours any more.
  int Renew();

  // Readable after Signal.
  int fd() const { return read_.get(); }
  // Async-signal-safe, keeps errno.
  void Signal() const;
  // False when there is no wake-up behind the number: somebody closed it behind our back, and it would be ready for ever.
  bool Drain() const;

 private:
  Fd read_;
  Fd write_;  // empty when one descriptor does both
};

}  // namespace forkbeard
