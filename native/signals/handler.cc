// See handler.h.
#include "signals/handler.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <array>
#include <bit>
#include <mutex>
#include <new>

#include "forked.h"
#include "signals.h"
#include "signals/subscription.h"

namespace forkbeard {

namespace {

struct Disposition {
  size_t keepers = 0;
  // `chained` is libuv's handler for certain.
  std::atomic<bool> is_libuvs{false};
  // One of the keepers is the main thread's, where the listeners of `process.on` are: it passes on to libuv.
  std::atomic<bool> main_keeps{false};
  // Deliveries that libuv has not been told of.
  std::atomic<uint32_t> owed{0};
  // Ours is in, or was in when somebody else's handler was put on top of it: that one may still call ours.
  bool installed = false;
  struct sigaction found = {};  // before the first keeper
  // After it: libuv's, which ours calls. Changes only while ours is not installed.
  struct sigaction chained = {};
  std::atomic<SignalKeeper*> list{nullptr};
};

alignas(std::mutex) char lock_memory[sizeof(std::mutex)];
std::mutex* lock = new (lock_memory) std::mutex;
std::atomic<uint32_t> handlers{0};
std::atomic<uint32_t> generation{0};  // the ForkGeneration that all of this belongs to
std::atomic<SignalSubscription*> subscriptions{nullptr};
std::array<Disposition, kMaxSignal> dispositions;
std::atomic<uint64_t> owing{0};  // the signals of which something is owed
// libuv's handler, which is the same for all signals, once it was seen being installed.
struct sigaction libuvs = {};
bool libuvs_known = false;

// libuv's pipe holds 4096 messages, and what does not fit is lost, other signals included. While a thread does not
// read it (it blocks in runSync, say), a storm stops here; one signal alone never fills the pipe.
constexpr uint32_t kBacklogLimit = 512;

bool HasRoom(const Disposition& disposition) {
  for (SignalKeeper* keeper = disposition.list.load(); keeper != nullptr; keeper = keeper->next.load()) {
    if (keeper->Backlog() < kBacklogLimit) return true;
  }
  return disposition.list.load() == nullptr;
}

void OnSignal(int number, siginfo_t* info, void* context) {
  int saved = errno;
  handlers.fetch_add(1);
  Disposition& disposition = dispositions[number - 1];
  // In a forked child the subscriptions are the parent's, and so is what would be woken.
  const bool ours = ForkGeneration() == generation.load();
  // Three calls of the kernel that the main thread's watchers need not wait for. Owed before anybody is woken: on another
  // thread this may rest for long, and the main thread would pass on nothing and sleep.
  const bool put_off = ours && disposition.main_keeps.load() && disposition.is_libuvs.load();
  if (put_off) {
    disposition.owed.fetch_add(1);
    owing.fetch_or(SignalBit(number));
  }
  if (ours) {
    Delivery delivery(number, *info);
    for (auto* loop = subscriptions.load(); loop != nullptr; loop = loop->next.load()) {
      if (loop->Watches(number)) loop->Note(delivery);
    }
  }
  if (!put_off && HasRoom(disposition)) {
    const struct sigaction& chained = disposition.chained;
    if (chained.sa_flags & SA_SIGINFO) {
      chained.sa_sigaction(number, info, context);
    } else if (chained.sa_handler != SIG_DFL && chained.sa_handler != SIG_IGN) {
      chained.sa_handler(number);
    }
  }
  handlers.fetch_sub(1);
  errno = saved;
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

}  // namespace

SignalsLocked::SignalsLocked() {
  if (ForkGeneration() != generation.load()) SignalsForked();
  lock->lock();
}
SignalsLocked::~SignalsLocked() { lock->unlock(); }

void WaitForHandlers() {
  while (handlers.load() != 0) sched_yield();
}

int InstallHandler(int number) {
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
    disposition.is_libuvs.store(libuvs_known && SameHandler(now, libuvs));
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

int StartKeeper(int number, SignalKeeper* keeper, bool in_main) {
  Disposition& disposition = dispositions[number - 1];
  if (disposition.keepers == 0 && !disposition.installed) sigaction(number, nullptr, &disposition.found);
  int error = uv_signal_start(&keeper->handle, [](uv_signal_t*, int) {}, number);
  if (error < 0) return error;
  uv_unref(reinterpret_cast<uv_handle_t*>(&keeper->handle));
  disposition.keepers++;
  keeper->next.store(disposition.list.load());
  disposition.list.store(keeper);
  // SIGCHLD is never put off: whoever waits for a child in a libuv loop of his own (`spawnSync`, a Worker) would wait
  // for the main thread's next turn, which may be for ever.
  if (in_main && number != SIGCHLD) disposition.main_keeps.store(true);
  return 0;
}

void StopKeeper(int number, SignalKeeper* keeper, bool in_main) {
  Disposition& disposition = dispositions[number - 1];
  std::atomic<SignalKeeper*>* link = &disposition.list;
  while (link->load() != nullptr && link->load() != keeper) link = &link->load()->next;
  if (link->load() == nullptr) return;
  if (in_main) {
    disposition.main_keeps.store(false);
    WaitForHandlers();
    SignalsPassOn();
  }
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

void SignalsPassOn() {
  if (owing.load(std::memory_order_relaxed) == 0) return;
  // As from a handler: none may come in between on this thread, and nothing that is read here is freed meanwhile.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  handlers.fetch_add(1);
  uint64_t numbers = ForkGeneration() == generation.load() ? owing.exchange(0) : 0;
  while (numbers != 0) {
    int number = std::countr_zero(numbers) + 1;
    numbers &= ~SignalBit(number);
    Disposition& disposition = dispositions[number - 1];
    for (uint32_t left = disposition.owed.exchange(0); left > 0 && HasRoom(disposition); left--) {
      disposition.chained.sa_handler(number);
    }
  }
  handlers.fetch_sub(1);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

SignalSubscription* FirstSubscription() { return subscriptions.load(); }

void Link(SignalSubscription* subscription) {
  if (subscription->linked) return;
  subscription->next.store(subscriptions.load());
  subscriptions.store(subscription);
  subscription->linked = true;
}

void Unlink(SignalSubscription* subscription) {
  if (subscription->linked) {
    std::atomic<SignalSubscription*>* link = &subscriptions;
    while (link->load() != subscription) link = &link->load()->next;
    link->store(subscription->next.load());
    subscription->linked = false;
  }
  WaitForHandlers();
}

void ClaimHandlers() {
  uint32_t none = 0;
  generation.compare_exchange_strong(none, ForkGeneration());
}

bool HandlersForked() {
  uint32_t now = ForkGeneration();
  if (generation.exchange(now) == now) return false;
  // Threads that held the lock or ran a handler are gone.
  lock = new (lock_memory) std::mutex;
  handlers.store(0);
  owing.store(0);
  for (Disposition& disposition : dispositions) disposition.owed.store(0);
  while (auto* loop = subscriptions.load()) {
    subscriptions.store(loop->next.load());
    loop->linked = false;
    loop->ForgetAll();
  }
  return true;
}

}  // namespace forkbeard
