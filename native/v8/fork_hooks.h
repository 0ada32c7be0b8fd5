// What a fork must do about V8, as plain function pointers: forkbeard_v8.node, which knows V8 and is built for one
// Node version, hands them through JavaScript to forkbeard.node, which forks and knows neither. Every call is made by
// the thread that forks. No JavaScript may run between `prepare` and `parent` or `child`.
#pragma once

#include <cstdint>

namespace forkbeard {

struct ForkHooks {
  static constexpr uint64_t kMagic = 0x6b726f6662656172;
  uint64_t magic;
  uint32_t size;

  // Brings V8's background threads to rest between two tasks and makes its pages ones that a child gets a copy of. 0,
  // or -EBUSY when a task did not end within `limit` nanoseconds: no further task starts then, and once the calling
  // thread has done what it has to do, prepare may be tried again. Or another negative errno, and all is as it was.
  int (*prepare)(int64_t limit);
  // After a successful prepare, when there is no fork or in the parent after it.
  void (*parent)();
  // After a successful prepare, in the child. 0 or a negative errno: this child cannot live.
  int (*child)();
  // In the child, when libuv's loop is its own: V8's background threads run again, and its tasks for this thread, whose
  // wake-up stayed in the parent, are due.
  void (*wake)();
  // After a prepare that failed and is not going to be repeated.
  void (*abandon)();
  // In the child, when it has time: its pages are left out of the forks of others again, as they are in the parent.
  void (*settle)();
};

}  // namespace forkbeard
