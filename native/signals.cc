#include "signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <uv.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <span>

#include "forked.h"
#include "js.h"
#include "loop.h"
#include "poller/poller.h"

namespace forkbeard {

namespace {

constexpr napi_type_tag kSubscriptionTag = {0x51c7a0de6b3f4e19, 0x8d02f4b97e5a6c31};
// Bit (number - 1) of a 64-bit word stands for a signal. No kernel has more.
constexpr int kMaxSignal = 64;

uint64_t Bit(int number) { return uint64_t{1} << (number - 1); }

bool IsRealTime([[maybe_unused]] int number) {
#if defined(SIGRTMIN)
  return number >= SIGRTMIN && number <= SIGRTMAX;
#else
  return false;
#endif
}

struct Delivery {
  enum Known : int32_t { kNothing = 0, kSender = 1, kValue = 2 };

  Delivery() = default;
  Delivery(int signal_number, const siginfo_t& info) : number(signal_number), code(info.si_code) {
    bool sender = code == SI_USER || code == SI_QUEUE || code == SI_MESGQ;
#if defined(SI_TKILL)
    sender = sender || code == SI_TKILL;
#elif defined(SI_LWP)
    sender = sender || code == SI_LWP;
#endif
#if defined(__APPLE__)
    sender = sender || code == 0;  // what kill(2) gives there
#endif
    if (sender || number == SIGCHLD) {
      known |= kSender;
      pid = info.si_pid;
      uid = static_cast<int32_t>(info.si_uid);
    }
    if (code == SI_QUEUE || code == SI_MESGQ || code == SI_TIMER) {
      known |= kValue;
      value = info.si_value.sival_int;
    }
  }

  int32_t number = 0;
  int32_t code = 0;
  int32_t known = kNothing;
  int32_t pid = 0;
  int32_t uid = 0;
  int32_t value = 0;
};

// Many handlers write (a signal may come to any thread), one loop reads. Nobody waits for anybody, so a handler may
// interrupt the reader.
class DeliveryQueue {
 public:
  // As many as a JavaScript thread that is busy for a second can well miss. Memory that is not used is not touched.
  static constexpr uint64_t kCapacity = 32768;

  static DeliveryQueue* Create() {
    void* memory = calloc(1, sizeof(DeliveryQueue));
    return memory == nullptr ? nullptr : new (memory) DeliveryQueue;
  }
  static void Destroy(DeliveryQueue* queue) { free(queue); }

  bool Push(const Delivery& delivery) {
    uint64_t head = head_.load();
    do {
      if (head - tail_.load() >= kCapacity) return false;
    } while (!head_.compare_exchange_weak(head, head + 1));
    Slot& slot = slots_[head % kCapacity];
    slot.delivery = delivery;
    slot.turn.store(head + 1, std::memory_order_release);
    return true;
  }
  bool Pop(Delivery* out) {
    uint64_t tail = tail_.load(std::memory_order_relaxed);
    Slot& slot = slots_[tail % kCapacity];
    if (slot.turn.load(std::memory_order_acquire) != tail + 1) return false;
    *out = slot.delivery;
    tail_.store(tail + 1);
    return true;
  }

 private:
  DeliveryQueue() {}  // leaves calloc's zeroes as they are

  struct Slot {
    Slot() {}
    std::atomic<uint64_t> turn;  // position + 1 of what is in it
    Delivery delivery;
  };
  std::atomic<uint64_t> head_;
  std::atomic<uint64_t> tail_;
  std::array<Slot, kCapacity> slots_;
};

// The deliveries of one signal since the loop last asked: how many, and who sent the last one.
class Tally {
 public:
  void Add(const Delivery& delivery) {
    // Odd while somebody writes. Whoever comes meanwhile, on another thread, is as much the last one as he is.
    uint32_t version = version_.load();
    if (version % 2 == 0 && version_.compare_exchange_strong(version, version + 1)) {
      code_.store(delivery.code);
      known_.store(delivery.known);
      pid_.store(delivery.pid);
      uid_.store(delivery.uid);
      value_.store(delivery.value);
      version_.store(version + 2);
    }
    count_.fetch_add(1);
  }
  // How many; 0 when nothing came.
  uint32_t Take(Delivery* last) {
    uint32_t count = count_.exchange(0);
    if (count == 0) return 0;
    uint32_t version;
    do {
      version = version_.load();
      last->code = code_.load();
      last->known = known_.load();
      last->pid = pid_.load();
      last->uid = uid_.load();
      last->value = value_.load();
    } while (version % 2 != 0 || version_.load() != version);
    return count;
  }
  // In a forked child, where a writer may have been lost half-way, too.
  void Reset() {
    count_.store(0);
    version_.store(0);
  }

 private:
  std::atomic<uint32_t> count_{0};
  std::atomic<uint32_t> version_{0};
  std::atomic<int32_t> code_{0};
  std::atomic<int32_t> known_{0};
  std::atomic<int32_t> pid_{0};
  std::atomic<int32_t> uid_{0};
  std::atomic<int32_t> value_{0};
};

}  // namespace

class SignalEnvironment;

// What one loop watches, and what came for it. Handlers read it from any thread.
class SignalSubscription {
 public:
  // `flag`, shared with JavaScript, is 1 while there is something to take.
  SignalSubscription(SignalEnvironment* environment, LoopHandle* loop, Poller* poller, int32_t* flag)
      : environment(environment), loop(loop), poller(poller), flag_(flag) {}
  ~SignalSubscription() { DeliveryQueue::Destroy(queue_.load()); }

  int PrepareFor(int number) {
    if (!IsRealTime(number) || queue_.load() != nullptr) return 0;
    DeliveryQueue* queue = DeliveryQueue::Create();
    if (queue == nullptr) return -ENOMEM;
    queue_.store(queue);
    return 0;
  }

  // From the handler. `driven`: libuv will call this loop's keeper, which is quicker than to wake the poller that libuv
  // watches; unless the loop sleeps in the poller itself.
  void Note(const Delivery& delivery, bool driven) {
    DeliveryQueue* queue = IsRealTime(delivery.number) ? queue_.load() : nullptr;
    // A full queue costs values, never deliveries.
    if (queue == nullptr || !queue->Push(delivery)) {
      tallies_[delivery.number - 1].Add(delivery);
      pending_.fetch_or(Bit(delivery.number));
    }
    __atomic_store_n(flag_, 1, __ATOMIC_SEQ_CST);
    if (!driven || poller->sleeping()) poller->Wake();
  }

  // From the loop's thread: writes what came as rows of kRow numbers and returns how many rows. As many as fit: there
  // may be more.
  size_t Take(std::span<int32_t> out) {
    __atomic_store_n(flag_, 0, __ATOMIC_SEQ_CST);
    size_t rows = 0;
    const size_t room = out.size() / kRow;
    auto write = [&](const Delivery& delivery, uint32_t count) {
      int32_t* row = &out[rows++ * kRow];
      row[0] = delivery.number;
      row[1] = static_cast<int32_t>(count);
      row[2] = delivery.code;
      row[3] = delivery.known;
      row[4] = delivery.pid;
      row[5] = delivery.uid;
      row[6] = delivery.value;
    };
    while (rows < room) {
      uint64_t pending = pending_.load();
      if (pending == 0) break;
      int number = std::countr_zero(pending) + 1;
      pending_.fetch_and(~Bit(number));
      Delivery last;
      last.number = number;
      if (uint32_t count = tallies_[number - 1].Take(&last)) write(last, count);
    }
    Delivery delivery;
    while (rows < room && !kept_.empty()) {
      write(kept_.front(), 1);
      kept_.pop_front();
    }
    while (rows < room && queue_.load() != nullptr && queue_.load()->Pop(&delivery)) {
      if (watched.load() & Bit(delivery.number)) write(delivery, 1);
    }
    if (rows == room) __atomic_store_n(flag_, 1, __ATOMIC_SEQ_CST);
    return rows;
  }

  // What came for a signal that is not watched any more must not reach its next watcher.
  void Forget(int number) {
    pending_.fetch_and(~Bit(number));
    tallies_[number - 1].Reset();
    if (queue_.load() == nullptr) return;
    std::erase_if(kept_, [number](const Delivery& kept) { return kept.number == number; });
    Delivery delivery;
    while (queue_.load()->Pop(&delivery)) {
      if (delivery.number != number) kept_.push_back(delivery);
    }
  }
  // In a forked child. A handler on another thread of the parent may have been anywhere in the queue.
  void ForgetAll() {
    watched.store(0);
    pending_.store(0);
    for (Tally& tally : tallies_) tally.Reset();
    kept_.clear();
    DeliveryQueue::Destroy(queue_.exchange(nullptr));
    *flag_ = 0;
  }

  static constexpr size_t kRow = 7;

  bool Watches(int number) const { return (watched.load() & Bit(number)) != 0; }
  bool HasNotes() const { return __atomic_load_n(flag_, __ATOMIC_SEQ_CST) != 0; }

  SignalEnvironment* const environment;
  LoopHandle* const loop;  // as long as there is a poller
  Poller* poller;
  uint32_t pass = 0;  // of the keepers' callbacks; see SignalEnvironment
  std::atomic<uint64_t> watched{0};
  std::atomic<SignalSubscription*> next{nullptr};
  bool linked = false;

 private:
  std::atomic<uint64_t> pending_{0};
  std::array<Tally, kMaxSignal> tallies_;
  std::atomic<DeliveryQueue*> queue_{nullptr};
  std::deque<Delivery> kept_;  // out of the queue, for signals that are still watched
  int32_t* const flag_;
};

namespace {

// A libuv handle that does nothing. As long as one is active, libuv leaves the disposition of its signal alone: it
// installs its handler with the first handle of a signal and sets SIG_DFL when the last one stops.
struct Keeper {
  uv_signal_t handle;
  size_t users = 0;  // subscriptions of this environment
  std::atomic<Keeper*> next{nullptr};

  // What libuv has written to this loop's pipe and not yet read from it.
  uint32_t Backlog() const {
    return __atomic_load_n(&handle.caught_signals, __ATOMIC_RELAXED) -
           __atomic_load_n(&handle.dispatched_signals, __ATOMIC_RELAXED);
  }
};

struct Disposition {
  size_t keepers = 0;
  // `chained` is libuv's handler for certain, so that keepers will be called.
  std::atomic<bool> drives{false};
  // Ours is in, or was in when somebody else's handler was put on top of it: that one may still call ours.
  bool installed = false;
  struct sigaction found = {};  // before the first keeper
  struct sigaction chained =
      {};  // after it: libuv's, which ours calls. Changes only while ours is not installed
  std::atomic<Keeper*> list{nullptr};
};

// Process-wide state. JavaScript threads hold the lock; handlers never do: they read the atomics, and what they could
// be reading is not freed before `handlers` was seen at 0.
alignas(std::mutex) char lock_memory[sizeof(std::mutex)];
std::mutex* lock = new (lock_memory) std::mutex;
std::atomic<uint32_t> handlers{0};
std::atomic<uint32_t> generation{0};  // the ForkGeneration that all of this belongs to
std::atomic<SignalSubscription*> subscriptions{nullptr};
std::array<Disposition, kMaxSignal> dispositions;
// libuv's handler, which is the same for all signals, once it was seen being installed.
struct sigaction libuvs = {};
bool libuvs_known = false;

// libuv's pipe holds 4096 messages, and what does not fit is lost, other signals included. While a thread does not
// read it (it blocks in runSync, say), a storm stops here; one signal alone never fills the pipe.
constexpr uint32_t kBacklogLimit = 512;

bool HasRoom(const Disposition& disposition) {
  for (Keeper* keeper = disposition.list.load(); keeper != nullptr; keeper = keeper->next.load()) {
    if (keeper->Backlog() < kBacklogLimit) return true;
  }
  return disposition.list.load() == nullptr;
}

// libuv drops what its pipe has no room for, and then calls no keeper.
void WakeUndriven(const Disposition& disposition, int number) {
  for (auto* loop = subscriptions.load(); loop != nullptr; loop = loop->next.load()) {
    if (!loop->Watches(number)) continue;
    for (Keeper* keeper = disposition.list.load(); keeper != nullptr; keeper = keeper->next.load()) {
      if (keeper->handle.data == loop->environment && keeper->Backlog() == 0) loop->poller->Wake();
    }
  }
}

void OnSignal(int number, siginfo_t* info, void* context) {
  int saved = errno;
  handlers.fetch_add(1);
  const Disposition& disposition = dispositions[number - 1];
  // In a forked child the subscriptions are the parent's, and so is what would be woken.
  const bool ours = ForkGeneration() == generation.load();
  const bool driven = disposition.drives.load();
  if (ours) {
    Delivery delivery(number, *info);
    for (auto* loop = subscriptions.load(); loop != nullptr; loop = loop->next.load()) {
      if (loop->Watches(number)) loop->Note(delivery, driven);
    }
  }
  if (HasRoom(disposition)) {
    const struct sigaction& chained = disposition.chained;
    if (chained.sa_flags & SA_SIGINFO) {
      chained.sa_sigaction(number, info, context);
    } else if (chained.sa_handler != SIG_DFL && chained.sa_handler != SIG_IGN) {
      chained.sa_handler(number);
    }
    if (ours && driven) WakeUndriven(disposition, number);
  }
  handlers.fetch_sub(1);
  errno = saved;
}

// No handler that started before this call is running after it.
void WaitForHandlers() {
  while (handlers.load() != 0) sched_yield();
}

bool IsOurs(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) && action.sa_sigaction == OnSignal;
}
bool IsPlain(const struct sigaction& action, void (*handler)(int)) {
  return !(action.sa_flags & SA_SIGINFO) && action.sa_handler == handler;
}
bool SameHandler(const struct sigaction& a, const struct sigaction& b) {
  if ((a.sa_flags & SA_SIGINFO) != (b.sa_flags & SA_SIGINFO)) return false;
  return a.sa_flags & SA_SIGINFO ? a.sa_sigaction == b.sa_sigaction : a.sa_handler == b.sa_handler;
}

// A Worker's end may unload the addon, while a handler of somebody else still knows the address of ours.
void StayLoaded() {
  static const bool pinned = [] {
    Dl_info info;
    return dladdr(reinterpret_cast<void*>(OnSignal), &info) != 0 &&
           dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
  }();
  (void)pinned;
}

int Install(int number) {
  Disposition& disposition = dispositions[number - 1];
  struct sigaction now;
  if (sigaction(number, nullptr, &now) < 0) return -errno;
  if (IsOurs(now)) return 0;
  if (disposition.installed) {
    // Somebody put his handler on top of ours and, we must believe, calls it. The default would not.
    bool lost = IsPlain(now, SIG_DFL) || IsPlain(now, SIG_IGN) || SameHandler(now, disposition.chained);
    if (!lost) return 0;
  } else {
    disposition.chained = now;
    if (!SameHandler(now, disposition.found)) {
      libuvs = now;
      libuvs_known = true;
    }
    disposition.drives.store(libuvs_known && SameHandler(now, libuvs));
  }
  StayLoaded();
  struct sigaction ours = {};
  ours.sa_sigaction = OnSignal;
  ours.sa_flags = SA_SIGINFO | SA_RESTART;
  sigfillset(&ours.sa_mask);
  if (sigaction(number, &ours, nullptr) < 0) return -errno;
  disposition.installed = true;
  return 0;
}

void Uninstall(int number) {
  Disposition& disposition = dispositions[number - 1];
  struct sigaction now;
  if (!disposition.installed || sigaction(number, nullptr, &now) < 0) return;
  if (IsOurs(now)) sigaction(number, &disposition.chained, nullptr);
  // With a stranger's on top, ours stays where it is and only passes on.
  if (IsOurs(now) || IsPlain(now, SIG_DFL) || IsPlain(now, SIG_IGN) ||
      SameHandler(now, disposition.chained)) {
    disposition.installed = false;
  }
}

void StopKeeper(int number, Keeper* keeper) {
  Disposition& disposition = dispositions[number - 1];
  std::atomic<Keeper*>* link = &disposition.list;
  while (link->load() != nullptr && link->load() != keeper) link = &link->load()->next;
  if (link->load() == nullptr) return;
  if (disposition.keepers == 1) Uninstall(number);
  link->store(keeper->next.load());
  uv_signal_stop(&keeper->handle);
  WaitForHandlers();
  if (--disposition.keepers > 0 || disposition.installed) return;
  // libuv's last handle leaves the default behind, whatever there was before its first one came: put that back. If
  // libuv's handler was what we found, its listeners went meanwhile, and the default is theirs. Between the two calls
  // the default is in force for a moment; only libuv could close that gap.
  struct sigaction now;
  if (sigaction(number, nullptr, &now) == 0 && IsPlain(now, SIG_DFL) &&
      !IsPlain(disposition.found, SIG_DFL) && !SameHandler(disposition.found, disposition.chained)) {
    sigaction(number, &disposition.found, nullptr);
  }
}

}  // namespace

// What an environment keeps: its keepers, which live on its libuv loop. Goes when libuv has closed them all.
class SignalEnvironment {
 public:
  explicit SignalEnvironment(napi_env env) : env_(env) {}

  int Hold(int number) {
    Keeper* keeper = nullptr;
    int error = Find(number, &keeper);
    if (error < 0) return error;
    Disposition& disposition = dispositions[number - 1];
    if (keeper->users == 0) {
      if (disposition.keepers == 0 && !disposition.installed) sigaction(number, nullptr, &disposition.found);
      error = uv_signal_start(&keeper->handle, OnKeeper, number);
      if (error < 0) return error;
      uv_unref(reinterpret_cast<uv_handle_t*>(&keeper->handle));
      disposition.keepers++;
      keeper->next.store(disposition.list.load());
      disposition.list.store(keeper);
    }
    error = Install(number);
    if (error < 0 && keeper->users == 0) StopKeeper(number, keeper);
    if (error == 0) keeper->users++;
    return error;
  }

  void Release(int number) {
    Keeper* keeper = keepers_[number - 1].get();
    if (keeper == nullptr || keeper->users == 0 || --keeper->users > 0) return;
    StopKeeper(number, keeper);
  }

  // In a forked child, where every thread but one is gone: also for environments of other threads.
  void Drop() {
    for (int number = 1; number <= kMaxSignal; number++) {
      Keeper* keeper = keepers_[number - 1].get();
      if (keeper == nullptr || keeper->users == 0) continue;
      keeper->users = 0;
      StopKeeper(number, keeper);
    }
  }

  // JavaScript holds one, and so does every subscription, whose finalizer may come late.
  void Ref() { refs_++; }
  void Unref() {
    if (--refs_ == 0 && open_ == 0) delete this;
  }

  SignalEnvironment* next = nullptr;

 private:
  ~SignalEnvironment();

  int Find(int number, Keeper** out) {
    auto& keeper = keepers_[number - 1];
    if (keeper == nullptr) {
      if (closing_) return -ECANCELED;
      uv_loop_t* loop = nullptr;
      if (napi_get_uv_event_loop(env_, &loop) != napi_ok) return -ENOTSUP;
      auto fresh = std::make_unique<Keeper>();
      int error = uv_signal_init(loop, &fresh->handle);
      if (error < 0) return error;
      fresh->handle.data = this;
      keeper = std::move(fresh);
      // An environment ends only after its handles are closed.
      if (open_++ == 0) napi_add_async_cleanup_hook(env_, OnCleanup, this, &hook_);
    }
    *out = keeper.get();
    return 0;
  }

  // libuv has come to a signal: turns of the loops that have notes.
  static void OnKeeper(uv_signal_t* handle, int number);
  SignalSubscription* NextWithNotes();
  static void OnCleanup(napi_async_cleanup_hook_handle, void* data);

  napi_env env_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::array<std::unique_ptr<Keeper>, kMaxSignal> keepers_;
  size_t open_ = 0;  // handles that libuv knows
  size_t refs_ = 0;
  uint32_t pass_ = 0;
  bool closing_ = false;
};

namespace {

SignalEnvironment* environments = nullptr;

// The lock, taken, and the state that is right for this process.
class Locked {
 public:
  Locked() {
    if (ForkGeneration() != generation.load()) SignalsForked();
    lock->lock();
  }
  ~Locked() { lock->unlock(); }
};

int Watch(SignalSubscription* subscription, int number) {
  Locked locked;
  if (subscription->watched.load() & Bit(number)) return Install(number);
  if (subscription->poller == nullptr) return -EBADF;
  int error = subscription->PrepareFor(number);
  if (error < 0) return error;
  if (!subscription->linked) {
    subscription->next.store(subscriptions.load());
    subscriptions.store(subscription);
    subscription->linked = true;
  }
  subscription->watched.fetch_or(Bit(number));
  error = subscription->environment->Hold(number);
  if (error < 0) subscription->watched.fetch_and(~Bit(number));
  return error;
}

void UnwatchLocked(SignalSubscription* subscription, int number) {
  if ((subscription->watched.load() & Bit(number)) == 0) return;
  subscription->watched.fetch_and(~Bit(number));
  subscription->environment->Release(number);
  WaitForHandlers();
  subscription->Forget(number);
}

void CloseLocked(SignalSubscription* subscription) {
  for (int number = 1; number <= kMaxSignal; number++) UnwatchLocked(subscription, number);
  if (subscription->linked) {
    std::atomic<SignalSubscription*>* link = &subscriptions;
    while (link->load() != subscription) link = &link->load()->next;
    link->store(subscription->next.load());
    subscription->linked = false;
  }
  WaitForHandlers();
  if (subscription->poller != nullptr) subscription->poller->SetAttention(nullptr);
  subscription->poller = nullptr;
}

}  // namespace

SignalEnvironment::~SignalEnvironment() {
  SignalEnvironment** link = &environments;
  while (*link != nullptr && *link != this) link = &(*link)->next;
  if (*link == this) *link = next;
}

SignalSubscription* SignalEnvironment::NextWithNotes() {
  Locked locked;
  for (auto* one = subscriptions.load(); one != nullptr; one = one->next.load()) {
    if (one->environment == this && one->pass != pass_ && one->HasNotes()) return one;
  }
  return nullptr;
}

void SignalEnvironment::OnKeeper(uv_signal_t* handle, int) {
  auto* self = static_cast<SignalEnvironment*>(handle->data);
  self->pass_++;
  // Looked for anew each time: a turn may open and close loops.
  while (SignalSubscription* one = self->NextWithNotes()) {
    one->pass = self->pass_;
    TurnLoop(one->loop);
  }
}

void SignalEnvironment::OnCleanup(napi_async_cleanup_hook_handle, void* data) {
  auto* self = static_cast<SignalEnvironment*>(data);
  {
    Locked locked;
    for (auto* loop = subscriptions.load(); loop != nullptr;) {
      auto* following = loop->next.load();
      if (loop->environment == self) CloseLocked(loop);
      loop = following;
    }
  }
  self->closing_ = true;
  for (auto& keeper : self->keepers_) {
    if (keeper == nullptr) continue;
    uv_close(reinterpret_cast<uv_handle_t*>(&keeper->handle), [](uv_handle_t* handle) {
      auto* environment = static_cast<SignalEnvironment*>(handle->data);
      if (--environment->open_ > 0) return;
      napi_remove_async_cleanup_hook(environment->hook_);
      Locked locked;
      if (environment->refs_ == 0) delete environment;
    });
  }
}

void SignalsPollerGone(Poller* poller) {
  Locked locked;
  for (auto* loop = subscriptions.load(); loop != nullptr;) {
    auto* following = loop->next.load();
    if (loop->poller == poller) CloseLocked(loop);
    loop = following;
  }
}

void SignalsForked() {
  uint32_t now = ForkGeneration();
  if (generation.exchange(now) == now) return;
  // Threads that held the lock or ran a handler are gone.
  lock = new (lock_memory) std::mutex;
  handlers.store(0);
  while (auto* loop = subscriptions.load()) {
    subscriptions.store(loop->next.load());
    loop->linked = false;
    loop->ForgetAll();
  }
  for (auto* environment = environments; environment != nullptr; environment = environment->next)
    environment->Drop();
}

// ------------------------------------------------------------------------------------ what JavaScript sees

namespace {

SignalSubscription* Subscription(napi_env env, napi_value value) {
  bool ours = false;
  void* subscription = nullptr;
  if (napi_check_object_type_tag(env, value, &kSubscriptionTag, &ours) != napi_ok || !ours) return nullptr;
  napi_get_value_external(env, value, &subscription);
  return static_cast<SignalSubscription*>(subscription);
}

// Int32Array only; the memory lives as long as JavaScript holds the array.
bool Numbers(napi_env env, napi_value value, std::span<int32_t>* out) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || length == 0) {
    return false;
  }
  *out = {static_cast<int32_t*>(data), length};
  return true;
}

// What keeps the flag's memory alive, beside its subscription.
struct Opened {
  SignalSubscription subscription;
  napi_ref flag;
};

// open(loop, flag): a subscription, or a negative errno.
napi_value OpenSubscription(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  LoopHandle* loop = LoopOf(env, call[0]);
  Poller* poller = loop == nullptr ? nullptr : PollerOf(env, call[0]);
  std::span<int32_t> flag;
  if (poller == nullptr || !Numbers(env, call[1], &flag)) return js::Int(env, -EBADF);
  auto* environment = static_cast<SignalEnvironment*>(call.data);
  auto* opened = new Opened{{environment, loop, poller, flag.data()}, nullptr};
  napi_create_reference(env, call[1], 1, &opened->flag);
  napi_value external = nullptr;
  napi_status status = napi_create_external(
      env, &opened->subscription,
      [](napi_env finalizing, void* data, void* hint) {
        auto* owner = static_cast<Opened*>(hint);
        {
          Locked locked;
          CloseLocked(&owner->subscription);
          owner->subscription.environment->Unref();
        }
        napi_delete_reference(finalizing, owner->flag);
        delete owner;
      },
      opened, &external);
  if (status != napi_ok) {
    delete opened;
    return js::Int(env, -ENOMEM);
  }
  poller->SetAttention(flag.data());
  {
    Locked locked;
    environment->Ref();
  }
  napi_type_tag_object(env, external, &kSubscriptionTag);
  return external;
}

// watch(subscription, number): 0 or a negative errno. Once more is harmless, and puts our handler back if somebody
// took it out.
napi_value WatchSignal(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  SignalSubscription* subscription = Subscription(env, call[0]);
  int32_t number;
  if (subscription == nullptr || !call.Int(1, &number) || number < 1 || number > kMaxSignal) {
    return js::Int(env, -EINVAL);
  }
  return js::Int(env, Watch(subscription, number));
}

// unwatch(subscription, number)
napi_value UnwatchSignal(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  SignalSubscription* subscription = Subscription(env, call[0]);
  int32_t number;
  if (subscription == nullptr || !call.Int(1, &number) || number < 1 || number > kMaxSignal) {
    return js::Int(env, -EINVAL);
  }
  Locked locked;
  UnwatchLocked(subscription, number);
  return js::Int(env, 0);
}

// take(subscription, rows): how many rows of [number, count, code, known, pid, uid, value] were written.
napi_value Take(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  SignalSubscription* subscription = Subscription(env, call[0]);
  std::span<int32_t> rows;
  if (subscription == nullptr || !Numbers(env, call[1], &rows)) return js::Int(env, -EINVAL);
  return js::Int(env, static_cast<int32_t>(subscription->Take(rows)));
}

// close(subscription)
napi_value CloseSubscription(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  SignalSubscription* subscription = Subscription(env, call[0]);
  if (subscription == nullptr) return js::Int(env, -EINVAL);
  Locked locked;
  CloseLocked(subscription);
  return js::Int(env, 0);
}

}  // namespace

napi_value MakeSignalExports(napi_env env) {
  uint32_t none = 0;
  generation.compare_exchange_strong(none, ForkGeneration());
  auto* environment = new SignalEnvironment(env);
  {
    Locked locked;
    environment->Ref();
    environment->next = environments;
    environments = environment;
  }
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "open", OpenSubscription, environment);
  js::SetFunction(env, exports, "watch", WatchSignal);
  js::SetFunction(env, exports, "unwatch", UnwatchSignal);
  js::SetFunction(env, exports, "take", Take);
  js::SetFunction(env, exports, "close", CloseSubscription);
  napi_add_finalizer(
      env, exports, environment,
      [](napi_env, void* data, void*) {
        Locked locked;
        static_cast<SignalEnvironment*>(data)->Unref();
      },
      nullptr, nullptr);
  return exports;
}

}  // namespace forkbeard
