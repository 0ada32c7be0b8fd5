// How the tests of the emulation ask it: one change, and what there is to tell now or soon.
#pragma once

#include <errno.h>
#include <sys/event.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "check.h"

namespace check {

constexpr int64_t kMilli = 1'000'000;

inline struct kevent Make(uintptr_t ident, int filter, int flags, uint32_t fflags = 0, int64_t data = 0,
                          uintptr_t udata = 0) {
  struct kevent change;
  EV_SET(&change, ident, filter, flags, fflags, data, reinterpret_cast<void*>(udata));
  return change;
}

// 0 or the errno of one change.
inline int Change(int queue, struct kevent change) {
  return kevent(queue, &change, 1, nullptr, 0, nullptr) < 0 ? errno : 0;
}
inline int Change(int queue, uintptr_t ident, int filter, int flags, uint32_t fflags = 0, int64_t data = 0,
                  uintptr_t udata = 0) {
  return Change(queue, Make(ident, filter, flags, fflags, data, udata));
}

inline std::vector<struct kevent> Wait(int queue, int64_t nanos, int room = 16) {
  std::vector<struct kevent> events(room);
  timespec time = {nanos / 1'000'000'000, nanos % 1'000'000'000};
  int count = kevent(queue, nullptr, 0, events.data(), room, nanos < 0 ? nullptr : &time);
  CHECK(count >= 0);
  events.resize(std::max(count, 0));
  return events;
}

// One that is there already.
inline struct kevent Only(int queue) {
  auto events = Wait(queue, 0);
  CHECK(events.size() == 1);
  return events.empty() ? Make(0, 0, 0) : events[0];
}
// One that will come.
inline struct kevent Next(int queue) {
  auto events = Wait(queue, 10'000 * kMilli);
  CHECK(events.size() == 1);
  return events.empty() ? Make(0, 0, 0) : events[0];
}
inline bool Quiet(int queue) { return Wait(queue, 0).empty(); }

}  // namespace check
