#include "lifeline.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "descriptors.h"
#include "fd.h"
#include "js.h"
#include "memory.h"
#include "v8/interrupt_hooks.h"

namespace forkbeard {

namespace {

// How often the thread looks for a request, ms.
constexpr int kTick = 100;
constexpr size_t kStackSize = 256 << 10;
#if defined(POLLRDHUP)
constexpr short kEnd = POLLRDHUP;
#else
constexpr short kEnd = 0;
#endif

// What is asked and answered through the request word; the same numbers in lib/process/lifeline.ts. The words are
// doubles, as JavaScript's numbers are.
constexpr double kAsked = 1;
constexpr double kInterrupting = 2;
constexpr double kAnswered = 3;

int64_t Milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// Where in the shared memory what lies, in bytes from its start; -1: nowhere.
struct Places {
  int32_t request = -1;
  int32_t stack = -1;
  int32_t stack_size = 0;
  int32_t near_heap_limit = -1;
};

class Shared {
 public:
  Shared() = default;
  ~Shared() {
    if (memory_ != nullptr) UnmapShared(memory_, size_);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  // 0 or a negative errno.
  int Map(int fd, size_t size, const Places& places) {
    bool fits = Fits(places.request, sizeof(double), sizeof(double), size) &&
                Fits(places.near_heap_limit, sizeof(double), sizeof(double), size) &&
                Fits(places.stack, places.stack_size, sizeof(uint32_t), size) &&
                (places.stack < 0 || places.stack_size >= 2 * static_cast<int>(sizeof(uint32_t)));
    if (!fits) return -EINVAL;
    int error = 0;
    memory_ = static_cast<char*>(MapShared(fd, size, &error));
    size_ = size;
    places_ = places;
    return memory_ == nullptr ? error : 0;
  }

  bool Asked() const {
    if (places_.request < 0) return false;
    double state;
    __atomic_load(Word(places_.request), &state, __ATOMIC_ACQUIRE);
    return state == kAsked;
  }
  void Tell(double state) { __atomic_store(Word(places_.request), &state, __ATOMIC_RELEASE); }
  bool WantsHeapMark() const { return places_.near_heap_limit >= 0; }
  void MarkHeap() {
    double mark = 1;
    if (WantsHeapMark()) __atomic_store(Word(places_.near_heap_limit), &mark, __ATOMIC_RELEASE);
  }
  // For the text, whose length stands before it.
  std::span<char> StackRoom() {
    if (places_.stack < 0) return {};
    return {memory_ + places_.stack + sizeof(uint32_t), places_.stack_size - sizeof(uint32_t)};
  }
  void SetStackLength(size_t length) {
    __atomic_store_n(reinterpret_cast<uint32_t*>(memory_ + places_.stack), static_cast<uint32_t>(length),
                     __ATOMIC_RELEASE);
  }

 private:
  static bool Fits(int32_t at, int32_t size, size_t alignment, size_t room) {
    return at < 0 || (size >= 0 && at % alignment == 0 && static_cast<size_t>(at) + size <= room);
  }
  double* Word(int32_t at) const { return reinterpret_cast<double*>(memory_ + at); }

  char* memory_ = nullptr;
  size_t size_ = 0;
  Places places_;
};

class Lifeline {
 public:
  Fd watched;
  int64_t grace = 0;  // ms
  int code = 0;
  Shared shared;
  const InterruptHooks* hooks = nullptr;
  void* isolate = nullptr;
  bool maps_memory = false;

  int Start();
  // Joins the thread.
  void Stop();
  void WriteStack();
  void MarkHeap() { shared.MarkHeap(); }

 private:
  void Run();
  void Look();

  Fd wake_read_, wake_write_;
  pthread_t thread_ = {};
};

// Of the main thread, except for the mutex: held by the lifeline's thread while it is in V8, and by whoever forks.
Lifeline* current = nullptr;
pthread_mutex_t in_v8 = PTHREAD_MUTEX_INITIALIZER;

void StackWanted(void*) {
  // It may have been stopped since, or this is a child and the lifeline its parent's.
  if (current != nullptr) current->WriteStack();
}

void HeapAtLimit(void*) {
  if (current != nullptr) current->MarkHeap();
}

int Lifeline::Start() {
  int pipe[2];
  if (int error = MakePipe(pipe); error < 0) return error;
  wake_read_ = Fd(pipe[0]);
  wake_write_ = Fd(pipe[1]);
  // No signal of the process is ever handled by this thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  int error = pthread_create(
      &thread_, &attributes,
      [](void* self) -> void* {
        static_cast<Lifeline*>(self)->Run();
        return nullptr;
      },
      this);
  pthread_attr_destroy(&attributes);
#if defined(__linux__)
  // Named here and not by itself: until then it would be taken for somebody else's.
  if (error == 0) pthread_setname_np(thread_, "forkbeard-life");
#endif
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return -error;
}

void Lifeline::Stop() {
  wake_write_.Reset();
  pthread_join(thread_, nullptr);
}

void Lifeline::Run() {
  int64_t end = -1;  // when the process ends, on the monotonic clock
  for (;;) {
    pollfd fds[] = {{wake_read_.get(), POLLIN, 0}, {end < 0 ? watched.get() : -1, kEnd, 0}};
    int timeout = maps_memory ? kTick : -1;
    if (end >= 0) {
      int64_t left = end - Milliseconds();
      if (left <= 0) _exit(code);
      if (timeout < 0 || left < timeout) timeout = static_cast<int>(left < INT32_MAX ? left : INT32_MAX);
    }
    if (poll(fds, 2, timeout) < 0 && errno != EINTR && errno != EAGAIN) return;
    if (fds[0].revents != 0) return;
    if (fds[1].revents != 0) end = Milliseconds() + grace;
    Look();
  }
}

void Lifeline::Look() {
  if (hooks == nullptr || !shared.Asked()) return;
  pthread_mutex_lock(&in_v8);
  shared.Tell(kInterrupting);
  hooks->request(isolate, StackWanted, nullptr);
  pthread_mutex_unlock(&in_v8);
}

void Lifeline::WriteStack() {
  std::span<char> room = shared.StackRoom();
  if (room.empty()) return;
  shared.SetStackLength(hooks->stack(isolate, room.data(), room.size()));
  shared.Tell(kAnswered);
}

void End(Lifeline* lifeline) {
  if (lifeline->hooks != nullptr) lifeline->hooks->watch_heap(lifeline->isolate, nullptr, nullptr);
  lifeline->Stop();
  delete lifeline;
}

void EndCurrent(void*) {
  if (current != nullptr) End(std::exchange(current, nullptr));
}

// ------------------------------------------------------------------------------------ what JavaScript sees

const InterruptHooks* HooksOf(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_external ||
      napi_get_value_external(env, value, &data) != napi_ok || data == nullptr) {
    return nullptr;
  }
  auto* hooks = static_cast<const InterruptHooks*>(data);
  return hooks->magic == InterruptHooks::kMagic && hooks->size == sizeof(InterruptHooks) ? hooks : nullptr;
}

// start(fd, grace, code, memory, bytes, places, hooks): 0 or a negative errno; -EALREADY while there is one. `memory`
// is -1 without; `places` are request, stack, its size, nearHeapLimit; `hooks` undefined where V8 is not known.
napi_value Start(napi_env env, napi_callback_info info) {
  js::Call<7> call(env, info);
  auto lifeline = std::make_unique<Lifeline>();
  int32_t fd, memory;
  double grace, bytes;
  std::span<int32_t> places;
  if (!call.Int(0, &fd) || fd < 0 || !call.Number(1, &grace) || !(grace >= 0) ||
      !call.Int(2, &lifeline->code) || !call.Int(3, &memory) || !call.Number(4, &bytes) ||
      !call.Ints(5, 4, &places)) {
    return js::Int(env, -EINVAL);
  }
  if (current != nullptr) return js::Int(env, -EALREADY);
  struct stat status;
  if (fstat(fd, &status) < 0) return js::Int(env, -errno);
  // Only these have another end.
  if (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode)) return js::Int(env, -ENOTSUP);
  // A century is for ever.
  lifeline->grace = grace < 3e12 ? static_cast<int64_t>(grace) : int64_t{3'000'000'000'000};
  if (memory >= 0) {
    Places where = {places[0], places[1], places[2], places[3]};
    if (!(bytes >= 1 && bytes <= 9e15)) return js::Int(env, -EINVAL);
    int error = lifeline->shared.Map(memory, static_cast<size_t>(bytes), where);
    if (error < 0) return js::Int(env, error);
    lifeline->maps_memory = where.request >= 0;
  }
  int copy = Duplicate(fd, 0);
  if (copy < 0) return js::Int(env, copy);
  lifeline->watched = Fd(copy);
  lifeline->hooks = HooksOf(env, call[6]);
  if (lifeline->hooks != nullptr) lifeline->isolate = lifeline->hooks->current();
  if (int error = lifeline->Start(); error < 0) return js::Int(env, error);
  current = lifeline.release();
  if (current->hooks != nullptr && current->shared.WantsHeapMark()) {
    current->hooks->watch_heap(current->isolate, HeapAtLimit, nullptr);
  }
  // Once for all: Node takes no hook twice, and a forked child has its parent's.
  static bool hooked = false;
  if (!hooked) napi_add_env_cleanup_hook(env, EndCurrent, nullptr);
  hooked = true;
  return js::Int(env, 0);
}

// stop(): when it returns, there is no such thread any more.
napi_value Stop(napi_env env, napi_callback_info info) {
  EndCurrent(nullptr);
  return js::Undefined(env);
}

// ---------------------------------------------------------------------------------------- the self-test

constexpr size_t kProbeRoom = 4096;

struct Probe {
  const InterruptHooks* hooks = nullptr;
  void* isolate = nullptr;
  char text[kProbeRoom];
  size_t length = 0;
  bool arrived = false;
};
Probe probe;

// probe(hooks): JavaScript is to be interrupted soon. False when these are no hooks of ours.
napi_value StartProbe(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  probe.hooks = HooksOf(env, call[0]);
  probe.arrived = false;
  if (probe.hooks == nullptr) return js::Bool(env, false);
  probe.isolate = probe.hooks->current();
  probe.hooks->request(
      probe.isolate,
      [](void*) {
        probe.length = probe.hooks->stack(probe.isolate, probe.text, kProbeRoom);
        probe.arrived = true;
      },
      nullptr);
  return js::Bool(env, true);
}

// probed(): the stack that was found, or undefined as long as there was no interrupt.
napi_value Probed(napi_env env, napi_callback_info) {
  if (!probe.arrived) return js::Undefined(env);
  napi_value text = nullptr;
  napi_create_string_utf8(env, probe.text, probe.length, &text);
  return text;
}

}  // namespace

void HoldLifeline() { pthread_mutex_lock(&in_v8); }
void ReleaseLifeline() { pthread_mutex_unlock(&in_v8); }

void LifelineForked() {
  pthread_mutex_init(&in_v8, nullptr);
  delete std::exchange(current, nullptr);
}

napi_value MakeLifelineExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "start", Start);
  js::SetFunction(env, exports, "stop", Stop);
  js::SetFunction(env, exports, "probe", StartProbe);
  js::SetFunction(env, exports, "probed", Probed);
  return exports;
}

}  // namespace forkbeard
