#include "drive.h"

#include <errno.h>
#if defined(__linux__)
#include <sys/epoll.h>
#endif

#include <memory>
#include <utility>

namespace forkbeard {

int Drive::Start(napi_env env, Poller* poller) {
  if (napi_get_uv_event_loop(env, &loop_) != napi_ok) return -ENOTSUP;
  // An environment ends only after its handles are closed.
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle, void* data) {
        auto* self = static_cast<Drive*>(data);
        if (self->owner_ != nullptr) {
          self->owner_->DriveEnds();
        } else {
          self->Close();
        }
      },
      this, &hook_);
  idle_ = new uv_idle_t;
  uv_idle_init(loop_, idle_);
  idle_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(idle_));
  check_ = new uv_check_t;
  uv_check_init(loop_, check_);
  check_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(check_));
  open_ = 2;
  return Watch(poller);
}

int Drive::Watch(Poller* poller) {
  if (closing_) return 0;
  int error;
  if (poller->fd() >= 0) {
    auto poll = std::make_unique<uv_poll_t>();
    error = uv_poll_init(loop_, poll.get(), poller->fd());
    if (error < 0) return error;
    poll_ = poll.release();
    poll_->data = this;
    open_++;
    error = uv_poll_start(poll_, UV_READABLE,
                          [](uv_poll_t* handle, int, int) { static_cast<Drive*>(handle->data)->Turn(); });
#if defined(__linux__)
    // libuv itself does this before it sleeps next. By then our set may have others in it, nested too deep for the
    // kernel, and libuv aborts the process over that; when it is there first, the others are refused instead.
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = poller->fd();
    if (error == 0) epoll_ctl(uv_backend_fd(loop_), EPOLL_CTL_ADD, poller->fd(), &event);
#endif
  } else {
    auto relay = std::make_unique<uv_async_t>();
    error = uv_async_init(loop_, relay.get(),
                          [](uv_async_t* handle) { static_cast<Drive*>(handle->data)->Turn(); });
    if (error < 0) return error;
    relay_ = relay.release();
    relay_->data = this;
    open_++;
    error = poller->StartRelay([](void* async) { uv_async_send(static_cast<uv_async_t*>(async)); }, relay_);
  }
  bool ref = ref_;
  ref_ = true;
  SetRef(ref);
  return error;
}

// The poller's relay, if there is one, rests when this is called: it would call a closing handle.
void Drive::Unwatch() {
  if (poll_ != nullptr) CloseHandle(std::exchange(poll_, nullptr));
  if (relay_ != nullptr) CloseHandle(std::exchange(relay_, nullptr));
}

void Drive::SetRef(bool ref) {
  if (ref == ref_) return;
  ref_ = ref;
  auto* handle =
      poll_ != nullptr ? reinterpret_cast<uv_handle_t*>(poll_) : reinterpret_cast<uv_handle_t*>(relay_);
  if (handle == nullptr) return;
  if (ref) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

void Drive::SetSpin(bool spin) {
  if (spin == spin_ || closing_) return;
  spin_ = spin;
  if (spin) {
    uv_idle_start(idle_, [](uv_idle_t*) {});
    uv_check_start(check_, [](uv_check_t* handle) {
      auto* self = static_cast<Drive*>(handle->data);
      // What came through the poll handle was a whole turn already.
      if (!std::exchange(self->turned_, false)) self->Turn();
      self->turned_ = false;
    });
  } else {
    uv_idle_stop(idle_);
    uv_check_stop(check_);
  }
}

void Drive::Close() {
  if (closing_) return;
  closing_ = true;
  owner_ = nullptr;
  open_++;  // keeps it alive until the end of this function
  if (idle_ != nullptr) CloseHandle(idle_);
  if (check_ != nullptr) CloseHandle(check_);
  Unwatch();
  HandleClosed();
}

}  // namespace forkbeard
