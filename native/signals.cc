// See signals.h: what JavaScript sees of it, and what the rest of the house calls.
#include "signals.h"

#include <errno.h>

#include "js.h"
#include "loop.h"
#include "poller/poller.h"
#include "signals/environment.h"
#include "signals/handler.h"
#include "signals/subscription.h"

namespace forkbeard {

void SignalsPollerGone(Poller* poller) {
  SignalsLocked locked;
  for (auto* one = FirstSubscription(); one != nullptr;) {
    auto* following = one->next.load();
    if (one->poller == poller) CloseSubscription(one);
    one = following;
  }
}

void SignalsForked() {
  if (HandlersForked()) SignalEnvironment::DropAll();
}

namespace {

constexpr napi_type_tag kSubscriptionTag = {0x51c7a0de6b3f4e19, 0x8d02f4b97e5a6c31};

SignalSubscription* Subscription(napi_env env, napi_value value) {
  bool ours = false;
  void* subscription = nullptr;
  if (napi_check_object_type_tag(env, value, &kSubscriptionTag, &ours) != napi_ok || !ours) return nullptr;
  napi_get_value_external(env, value, &subscription);
  return static_cast<SignalSubscription*>(subscription);
}

// A subscription, and what keeps the memory of its mailbox alive.
struct Opened {
  SignalSubscription subscription;
  napi_ref mailbox;
};

// open(loop, mailbox): a subscription, or a negative errno.
napi_value Open(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  Poller* poller = PollerOf(env, call[0]);
  std::span<int32_t> mailbox;
  constexpr size_t kLeast = SignalSubscription::kFirstRow + SignalSubscription::kRow;
  if (poller == nullptr || !call.Ints(1, kLeast, &mailbox)) return js::Int(env, -EBADF);
  auto* environment = static_cast<SignalEnvironment*>(call.data);
  auto* opened = new Opened{{environment, poller, mailbox}, nullptr};
  napi_create_reference(env, call[1], 1, &opened->mailbox);
  napi_value external = nullptr;
  napi_status status = napi_create_external(
      env, &opened->subscription,
      [](napi_env finalizing, void*, void* hint) {
        auto* owner = static_cast<Opened*>(hint);
        {
          SignalsLocked locked;
          CloseSubscription(&owner->subscription);
          owner->subscription.environment->Unref();
        }
        napi_delete_reference(finalizing, owner->mailbox);
        delete owner;
      },
      opened, &external);
  if (status != napi_ok) {
    delete opened;
    return js::Int(env, -ENOMEM);
  }
  poller->SetAttention(&opened->subscription);
  {
    SignalsLocked locked;
    environment->Ref();
  }
  napi_type_tag_object(env, external, &kSubscriptionTag);
  return external;
}

// (subscription, number): 0 or a negative errno.
template <int (*function)(SignalSubscription*, int)>
napi_value OfNumber(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  SignalSubscription* subscription = Subscription(env, call[0]);
  int32_t number;
  if (subscription == nullptr || !call.Int(1, &number) || number < 1 || number > kMaxSignal) {
    return js::Int(env, -EINVAL);
  }
  SignalsLocked locked;
  return js::Int(env, function(subscription, number));
}

int Unwatch(SignalSubscription* subscription, int number) {
  UnwatchSignal(subscription, number);
  return 0;
}

// (subscription): 0 or a negative errno.
template <void (*function)(SignalSubscription*)>
napi_value Of(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  SignalSubscription* subscription = Subscription(env, call[0]);
  if (subscription == nullptr) return js::Int(env, -EINVAL);
  function(subscription);
  return js::Int(env, 0);
}

void Fetch(SignalSubscription* subscription) { subscription->Fetch(); }

void Close(SignalSubscription* subscription) {
  SignalsLocked locked;
  CloseSubscription(subscription);
}

}  // namespace

napi_value MakeSignalExports(napi_env env) {
  ClaimHandlers();
  SignalEnvironment* environment;
  {
    SignalsLocked locked;
    environment = new SignalEnvironment(env);
    environment->Ref();
  }
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "open", Open, environment);
  js::SetFunction(env, exports, "watch", OfNumber<WatchSignal>);
  js::SetFunction(env, exports, "unwatch", OfNumber<Unwatch>);
  js::SetFunction(env, exports, "fetch", Of<Fetch>);
  js::SetFunction(env, exports, "close", Of<Close>);
  napi_add_finalizer(
      env, exports, environment,
      [](napi_env, void* data, void*) {
        SignalsLocked locked;
        static_cast<SignalEnvironment*>(data)->Unref();
      },
      nullptr, nullptr);
  return exports;
}

}  // namespace forkbeard
