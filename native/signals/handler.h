// The handler of watched signals, and the disposition that it stands in: how it comes in beside libuv's, and how what was
// found comes back. State of the whole process. JavaScript threads change it under the lock; handlers never wait for
// anybody: they read atomics, and what they could be reading is not freed before WaitForHandlers has returned.
//
// libuv's handler is called by ours when it is time: at once, or, where the main thread watches the signal itself, by
// SignalsPassOn of signals.h, when its own watchers were told.
#pragma once

#include <uv.h>

#include <atomic>
#include <cstddef>

#include "signals/delivery.h"

namespace forkbeard {

class SignalSubscription;

// A libuv handle that does nothing. As long as one is active, libuv leaves the disposition of its signal alone: it
// installs its handler with the first handle of a signal and sets SIG_DFL when the last one stops.
struct SignalKeeper {
  uv_signal_t handle;
  size_t users = 0;  // subscriptions of its environment
  std::atomic<SignalKeeper*> next{nullptr};

  // What libuv has written to this loop's pipe and not yet read from it.
  uint32_t Backlog() const {
    return __atomic_load_n(&handle.caught_signals, __ATOMIC_RELAXED) -
           __atomic_load_n(&handle.dispatched_signals, __ATOMIC_RELAXED);
  }
};

// Takes the lock, when the state is right for this process.
class SignalsLocked {
 public:
  SignalsLocked();
  ~SignalsLocked();
};

// Under the lock, like all that follows. `in_main`: the main thread is the one whose loop the keeper is on.
int StartKeeper(int number, SignalKeeper* keeper, bool in_main);
void StopKeeper(int number, SignalKeeper* keeper, bool in_main);
// 0 or a negative errno. Once more is harmless, and puts our handler back if somebody took it out.
int InstallHandler(int number);

// Subscriptions that handlers look through. Once out, none of them touches it any more.
void Link(SignalSubscription* subscription);
void Unlink(SignalSubscription* subscription);
SignalSubscription* FirstSubscription();
// No handler that started before this call is running after it.
void WaitForHandlers();

// In a forked child: nobody watches, and nothing is owed to libuv. True when that was not known yet.
bool HandlersForked();
// The process that all of this belongs to is this one, from now on.
void ClaimHandlers();

}  // namespace forkbeard
