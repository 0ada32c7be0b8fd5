// See environment.h.
#include "signals/environment.h"

#include <errno.h>
#include <unistd.h>

#include "signals/subscription.h"

#if defined(__linux__)
#include <sys/syscall.h>
#else
#include <pthread.h>
#if defined(__FreeBSD__) || defined(__OpenBSD__)
#include <pthread_np.h>
#endif
#endif

namespace forkbeard {

namespace {

SignalEnvironment* environments = nullptr;

bool IsMainThread() {
#if defined(__linux__)
  return syscall(SYS_gettid) == getpid();
#elif defined(__NetBSD__)
  return false;
#else
  return pthread_main_np() == 1;
#endif
}

}  // namespace

SignalEnvironment::SignalEnvironment(napi_env env) : env_(env), in_main_(IsMainThread()) {
  next_ = environments;
  environments = this;
}

SignalEnvironment::~SignalEnvironment() {
  SignalEnvironment** link = &environments;
  while (*link != nullptr && *link != this) link = &(*link)->next_;
  if (*link == this) *link = next_;
}

int SignalEnvironment::Find(int number, SignalKeeper** out) {
  auto& keeper = keepers_[number - 1];
  if (keeper == nullptr) {
    if (closing_) return -ECANCELED;
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(env_, &loop) != napi_ok) return -ENOTSUP;
    auto fresh = std::make_unique<SignalKeeper>();
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

int SignalEnvironment::Hold(int number) {
  SignalKeeper* keeper = nullptr;
  int error = Find(number, &keeper);
  if (error == 0 && keeper->users == 0) error = StartKeeper(number, keeper, in_main_);
  if (error < 0) return error;
  error = InstallHandler(number);
  if (error < 0 && keeper->users == 0) StopKeeper(number, keeper, in_main_);
  if (error == 0) keeper->users++;
  return error;
}

void SignalEnvironment::Release(int number) {
  SignalKeeper* keeper = keepers_[number - 1].get();
  if (keeper == nullptr || keeper->users == 0 || --keeper->users > 0) return;
  StopKeeper(number, keeper, in_main_);
}

void SignalEnvironment::Drop() {
  for (int number = 1; number <= kMaxSignal; number++) {
    SignalKeeper* keeper = keepers_[number - 1].get();
    if (keeper == nullptr || keeper->users == 0) continue;
    keeper->users = 0;
    StopKeeper(number, keeper, in_main_);
  }
}

void SignalEnvironment::DropAll() {
  for (auto* environment = environments; environment != nullptr; environment = environment->next_)
    environment->Drop();
}

void SignalEnvironment::OnCleanup(napi_async_cleanup_hook_handle, void* data) {
  auto* self = static_cast<SignalEnvironment*>(data);
  {
    SignalsLocked locked;
    for (auto* loop = FirstSubscription(); loop != nullptr;) {
      auto* following = loop->next.load();
      if (loop->environment == self) CloseSubscription(loop);
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
      SignalsLocked locked;
      if (environment->refs_ == 0) delete environment;
    });
  }
}

void UnwatchSignal(SignalSubscription* subscription, int number) {
  if (!subscription->Watches(number)) return;
  subscription->watched.fetch_and(~SignalBit(number));
  subscription->environment->Release(number);
  WaitForHandlers();
  subscription->Forget(number);
}

void CloseSubscription(SignalSubscription* subscription) {
  for (int number = 1; number <= kMaxSignal; number++) UnwatchSignal(subscription, number);
  Unlink(subscription);
  if (subscription->poller != nullptr) subscription->poller->SetAttention(nullptr);
  subscription->poller = nullptr;
}

int WatchSignal(SignalSubscription* subscription, int number) {
  if (subscription->Watches(number)) return InstallHandler(number);
  if (subscription->poller == nullptr) return -EBADF;
  int error = subscription->PrepareFor(number);
  if (error < 0) return error;
  Link(subscription);
  subscription->watched.fetch_or(SignalBit(number));
  error = subscription->environment->Hold(number);
  if (error < 0) subscription->watched.fetch_and(~SignalBit(number));
  return error;
}

}  // namespace forkbeard
