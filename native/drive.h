// Drive: the handles on Node's own loop by which it turns one of ours and lives as long as it. One belongs to a
// LoopHandle (loop.cc), which it outlives until libuv has closed the handles. It never touches JavaScript.
#pragma once

#include <node_api.h>
#include <uv.h>

#include "poller/poller.h"

namespace forkbeard {

class Drive {
 public:
  class Owner {
   public:
    // The poller has something, or Node's loop turns while we spin.
    virtual void DriveTurned() = 0;
    // The environment ends: the owner calls Close.
    virtual void DriveEnds() = 0;

   protected:
    ~Owner() = default;
  };

  explicit Drive(Owner* owner) : owner_(owner) {}

  int Start(napi_env env, Poller* poller);
  // Watches the poller's kernel object, which may be another one than before.
  int Watch(Poller* poller);
  void Unwatch();
  bool watches() const { return poll_ != nullptr || relay_ != nullptr; }
  void SetRef(bool ref);
  void SetSpin(bool spin);
  // Closes the handles; the object deletes itself when libuv is through with them.
  void Close();

 private:
  ~Drive() = default;

  template <class Handle>
  void CloseHandle(Handle* handle) {
    handle->data = this;
    uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) {
      auto* self = static_cast<Drive*>(closed->data);
      delete reinterpret_cast<Handle*>(closed);
      self->HandleClosed();
    });
  }
  void HandleClosed() {
    if (--open_ > 0 || !closing_) return;
    if (hook_ != nullptr) napi_remove_async_cleanup_hook(hook_);
    delete this;
  }
  void Turn() {
    turned_ = true;
    if (owner_ != nullptr) owner_->DriveTurned();
  }

  Owner* owner_;
  uv_loop_t* loop_ = nullptr;
  uv_poll_t* poll_ = nullptr;    // on the poller's kernel object
  uv_async_t* relay_ = nullptr;  // instead, where the poller has none
  uv_idle_t* idle_ = nullptr;    // active: Node's loop does not sleep
  uv_check_t* check_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  int open_ = 0;
  bool ref_ = false;
  bool spin_ = false;
  bool turned_ = false;  // in this turn of Node's loop
  bool closing_ = false;
};

}  // namespace forkbeard
