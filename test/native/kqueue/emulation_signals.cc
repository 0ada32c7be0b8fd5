// EVFILT_SIGNAL of the emulation: handlers that count, on top of what they find.
#include "emulation_signals.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>

namespace {

// One eventfd a signal filter: its counter is the count of deliveries.
struct SignalWatch {
  std::atomic<int> signal;
  std::atomic<int> event;
};
std::array<SignalWatch, 64> signal_watches;
std::atomic<int> handlers_running;
std::array<struct sigaction, NSIG> found;
std::array<std::atomic<int>, NSIG> watched;

void OnSignal(int signal, siginfo_t* info, void* context);

bool IsOurs(const struct sigaction& action) {
  return action.sa_flags & SA_SIGINFO && action.sa_sigaction == OnSignal;
}

bool IgnoredByDefault(int signal) {
  return signal == SIGCHLD || signal == SIGCONT || signal == SIGURG || signal == SIGWINCH;
}

// A filter does not replace the disposition: what was found happens as well.
void OnSignal(int signal, siginfo_t* info, void* context) {
  int saved = errno;
  handlers_running.fetch_add(1);
  for (SignalWatch& watch : signal_watches) {
    if (watch.signal.load() != signal) continue;
    uint64_t one = 1;
    ssize_t written = write(watch.event.load(), &one, sizeof one);
    (void)written;
  }
  handlers_running.fetch_sub(1);
  const struct sigaction& before = found[signal];
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler == SIG_DFL) {
    if (!IgnoredByDefault(signal)) {
      struct sigaction action = {};
      action.sa_handler = SIG_DFL;
      sigaction(signal, &action, nullptr);
      raise(signal);  // it comes when this handler returns
    }
  } else if (before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  }
  errno = saved;
}

// Puts our handler on top, also of one that somebody installed since.
void CatchSignal(int signal) {
  struct sigaction present;
  if (sigaction(signal, nullptr, &present) < 0 || IsOurs(present)) return;
  found[signal] = present;
  struct sigaction action = {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | (present.sa_flags & (SA_ONSTACK | SA_NODEFER | SA_NOCLDSTOP));
  action.sa_mask = present.sa_mask;
  sigaction(signal, &action, nullptr);
}

}  // namespace

int WatchSignal(int signal, int event) {
  struct sigaction present;
  if (signal < 1 || signal >= NSIG || sigaction(signal, nullptr, &present) < 0) return EINVAL;
  for (SignalWatch& watch : signal_watches) {
    if (watch.signal.load() != 0) continue;
    watch.event.store(event);
    watch.signal.store(signal);
    watched[signal].fetch_add(1);
    CatchSignal(signal);
    return 0;
  }
  return ENOMEM;
}

void UnwatchSignal(int signal, int event) {
  for (SignalWatch& watch : signal_watches) {
    if (watch.signal.load() != signal || watch.event.load() != event) continue;
    watch.signal.store(0);
    while (handlers_running.load() != 0) sched_yield();
    if (watched[signal].fetch_sub(1) > 1) return;
    struct sigaction present;
    if (sigaction(signal, nullptr, &present) == 0 && IsOurs(present))
      sigaction(signal, &found[signal], nullptr);
    return;
  }
}

void KeepSignals() {
  for (int signal = 1; signal < NSIG; signal++) {
    if (watched[signal].load() > 0) CatchSignal(signal);
  }
}
