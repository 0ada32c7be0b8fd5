// SignalEnvironment: what an environment (the main thread, a Worker) keeps for its loops that watch signals, a libuv
// handle for each signal. It goes when libuv has closed them all. And what a loop does with its subscription.
#pragma once

#include <node_api.h>
#include <uv.h>

#include <array>
#include <cstdint>
#include <memory>

#include "signals/handler.h"

namespace forkbeard {

class SignalSubscription;

class SignalEnvironment {
 public:
  // Under the lock, like all that follows.
  explicit SignalEnvironment(napi_env env);

  // One subscription more, or less, watches the signal. Hold: 0 or a negative errno.
  int Hold(int number);
  void Release(int number);

  // JavaScript holds one, and so does every subscription, whose finalizer may come late.
  void Ref() { refs_++; }
  void Unref() {
    if (--refs_ == 0 && open_ == 0) delete this;
  }

  // In a forked child, where every thread but one is gone: all keepers, also of other threads' environments.
  static void DropAll();

 private:
  ~SignalEnvironment();

  int Find(int number, SignalKeeper** out);
  void Drop();
  static void OnCleanup(napi_async_cleanup_hook_handle, void* data);

  napi_env env_;
  const bool in_main_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::array<std::unique_ptr<SignalKeeper>, kMaxSignal> keepers_;
  size_t open_ = 0;  // handles that libuv knows
  size_t refs_ = 0;
  bool closing_ = false;
  SignalEnvironment* next_ = nullptr;
};

// Watch: 0 or a negative errno. Close takes it off whatever it
// watches, and off its poller.
int WatchSignal(SignalSubscription* subscription, int number);
void UnwatchSignal(SignalSubscription* subscription, int number);
void CloseSubscription(SignalSubscription* subscription);

}  // namespace forkbeard
