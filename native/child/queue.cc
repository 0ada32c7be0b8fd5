// See queue.h.
#include "child/queue.h"

#include <errno.h>
#include <fcntl.h>

#include <cstdint>
#include <span>

#include "js.h"
#include "pretend.h"

#if defined(FORKBEARD_KQUEUE) || defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || \
    defined(__NetBSD__)
#define FORKBEARD_EVFILT_PROC
#include <sys/event.h>
#endif

namespace forkbeard {

namespace {

#if defined(FORKBEARD_EVFILT_PROC)
constexpr uint16_t kAdd = EV_ADD | EV_ONESHOT;
constexpr uint16_t kRemove = EV_DELETE;
#else
constexpr uint16_t kAdd = 0;
constexpr uint16_t kRemove = 1;
#endif

// openQueue(): a kqueue that becomes readable when a process that was added to it ends. -ENOSYS where there is none.
napi_value OpenQueue(napi_env env, napi_callback_info) {
#if defined(FORKBEARD_EVFILT_PROC)
  if (PretendMissing("kqueue")) return js::Int(env, -ENOSYS);
  int queue = kqueue();
  if (queue < 0) return js::Int(env, -errno);
  fcntl(queue, F_SETFD, FD_CLOEXEC);
  return js::Int(env, queue);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// (queue, pid): 0 or a negative errno.
template <uint16_t flags>
napi_value ChangeQueue(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t queue, pid;
  if (!call.Int(0, &queue) || !call.Int(1, &pid) || pid <= 0) return js::Int(env, -EINVAL);
#if defined(FORKBEARD_EVFILT_PROC)
  struct kevent change;
  EV_SET(&change, static_cast<uintptr_t>(pid), EVFILT_PROC, flags, NOTE_EXIT, 0, nullptr);
  return js::Int(env, kevent(queue, &change, 1, nullptr, 0, nullptr) < 0 ? -errno : 0);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// takeFromQueue(queue, out): the pids of those that have ended are in out; how many, or a negative errno.
napi_value TakeFromQueue(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t queue;
  std::span<int32_t> out;
  if (!call.Int(0, &queue) || !call.Ints(1, 1, &out)) return js::Int(env, -EINVAL);
#if defined(FORKBEARD_EVFILT_PROC)
  struct kevent events[64];
  timespec at_once = {};
  int room = static_cast<int>(out.size() < 64 ? out.size() : 64);
  int count = kevent(queue, nullptr, 0, events, room, &at_once);
  for (int i = 0; i < count; i++) out[i] = static_cast<int32_t>(events[i].ident);
  return js::Int(env, count < 0 ? -errno : count);
#else
  return js::Int(env, -ENOSYS);
#endif
}

}  // namespace

void SetQueueExports(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "openQueue", OpenQueue);
  // -ESRCH: the process has ended already, and may be there to be waited for.
  js::SetFunction(env, exports, "addToQueue", ChangeQueue<kAdd>);
  js::SetFunction(env, exports, "removeFromQueue", ChangeQueue<kRemove>);
  js::SetFunction(env, exports, "takeFromQueue", TakeFromQueue);
}

}  // namespace forkbeard
