#include "loop.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "addon.h"
#include "drive.h"
#include "forked.h"
#include "js.h"
#include "poller/poller.h"
#include "signals.h"

namespace forkbeard {

namespace {

constexpr napi_type_tag kLoopTag = {0x9d1f7c4e52a84b06, 0xb3e8610f2c7d94a5};
constexpr double kNanosPerMilli = 1e6;

constexpr struct {
  const char* name;
  Backend backend;
} kBackendNames[] = {{"epoll", Backend::kEpoll}, {"kqueue", Backend::kKqueue}, {"poll", Backend::kPoll}};

// Milliseconds to nanoseconds, rounded up: a wait never ends early. Anything that is no reasonable number of
// milliseconds (Infinity, and what does not fit) waits for ever.
int64_t ToNanos(double millis) {
  if (!(millis < 9e12)) return Poller::kForever;
  return millis <= 0 ? 0 : static_cast<int64_t>(std::ceil(millis * kNanosPerMilli));
}

}  // namespace

class LoopHandle final : private Drive::Owner {
 public:
  static LoopHandle* From(napi_env env, napi_value value) {
    // Looking for a tag on what is no object at all would throw.
    napi_valuetype type;
    if (napi_typeof(env, value, &type) != napi_ok || type != napi_external) return nullptr;
    bool ours = false;
    void* handle = nullptr;
    if (napi_check_object_type_tag(env, value, &kLoopTag, &ours) != napi_ok || !ours) return nullptr;
    napi_get_value_external(env, value, &handle);
    return static_cast<LoopHandle*>(handle);
  }

  LoopHandle(napi_env env, std::unique_ptr<Poller> poller) : env_(env), poller_(std::move(poller)) {
    Addon::Of(env)->loops.push_back(this);
  }
  ~LoopHandle() {
    Close();
    for (napi_ref ref : {batch_ref_, turn_ref_}) {
      if (ref != nullptr) napi_delete_reference(env_, ref);
    }
    if (Addon* addon = Addon::Of(env_)) std::erase(addon->loops, this);
  }

  Poller* poller() { return poller_.get(); }
  bool closed() const { return poller_ == nullptr; }

  void SetBatch(napi_value array, std::span<Event> batch) {
    if (batch_ref_ != nullptr) napi_delete_reference(env_, batch_ref_);
    napi_create_reference(env_, array, 1, &batch_ref_);
    batch_ = batch;
  }

  // -ESTALE in a forked child: the kernel objects are the parent's.
  int Usable() {
    if (poller_ == nullptr) return -EBADF;
    if (ForkGeneration() == generation_) return 0;
    Forked();
    return -ESTALE;
  }
  void Forked() {
    if (forked_) return;
    forked_ = true;
    // First: what libuv then takes out of a set that may still be the parent's is a number that names nothing here.
    poller_->Forked();
    if (drive_ != nullptr) drive_->Unwatch();
    Rest();
  }
  int Recreate() {
    int error = poller_->Recreate();
    if (error < 0) return error;
    generation_ = ForkGeneration();
    forked_ = false;
    Rest();
    if (drive_ == nullptr) return 0;
    error = Rewatch();
    UpdateSpin();
    return error;
  }

  int Wait(int64_t timeout) {
    if (timeout != 0) SignalsPassOn();
    int count = poller_->Wait(timeout, batch_);
    if (drive_ != nullptr) {
      if (poller_->incarnation() != watched_) Rewatch();
      UpdateSpin();
    }
    return count;
  }

  int StartDrive(napi_value turn) {
    if (drive_ != nullptr) return 0;
    // They are there already when the kernel refused the first time.
    if (async_context_ == nullptr) {
      napi_value name, resource;
      napi_create_string_utf8(env_, "FORKBEARD_LOOP", NAPI_AUTO_LENGTH, &name);
      napi_create_object(env_, &resource);
      if (napi_async_init(env_, resource, name, &async_context_) != napi_ok) return -ENOMEM;
      napi_create_reference(env_, turn, 0, &turn_ref_);
    }
    drive_ = new Drive(this);
    watched_ = poller_->incarnation();
    int error = drive_->Start(env_, poller_.get());
    if (error < 0) {
      drive_->Close();
      drive_ = nullptr;
    } else {
      UpdateSpin();
    }
    return error;
  }
  // Whether Node's loop lives as long as this one does.
  void SetRef(bool ref) {
    if (drive_ != nullptr) drive_->SetRef(ref);
  }
  // Whether the JavaScript side must live on, though nobody but the kernel refers to it.
  void SetHold(bool hold) {
    if (turn_ref_ == nullptr || hold == held_) return;
    held_ = hold;
    if (hold) {
      napi_reference_ref(env_, turn_ref_, nullptr);
    } else {
      napi_reference_unref(env_, turn_ref_, nullptr);
    }
  }
  // Whether JavaScript has work that does not wait.
  void SetPending(bool pending) {
    pending_ = pending;
    UpdateSpin();
  }
  void UpdateSpin() {
    if (drive_ != nullptr && poller_ != nullptr) {
      // Unwatched: libuv refused the poller's new object, and the next turn tries again.
      drive_->SetSpin(!forked_ && (pending_ || poller_->HasImmediate() || !drive_->watches()));
    }
  }

  void Close() {
    if (Usable() == -EBADF) return;
    poller_->StopRelay();
    if (drive_ != nullptr) {
      drive_->Close();
      drive_ = nullptr;
    }
    SetHold(false);
    SignalsPollerGone(poller_.get());
    poller_.reset();
    if (!turning_) DestroyContext();
  }

  void DriveTurned() override { Turn(); }
  void DriveEnds() override { Close(); }

  // From Node's loop: fetch what is ready and hand over the whole batch in one call.
  void Turn() {
    if (Usable() == 0) Call(Wait(0));
    if (poller_ != nullptr) poller_->Settle();
    SignalsPassOn();
  }

 private:
  void Call(int count) {
    napi_handle_scope scope;
    if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
    napi_value turn = nullptr, global, argument;
    napi_get_reference_value(env_, turn_ref_, &turn);
    if (turn != nullptr) {
      napi_get_global(env_, &global);
      napi_create_int32(env_, count, &argument);
      turning_ = true;
      napi_status status = napi_make_callback(env_, async_context_, global, turn, 1, &argument, nullptr);
      if (status == napi_pending_exception) {
        napi_value error;
        if (napi_get_and_clear_last_exception(env_, &error) == napi_ok) napi_fatal_exception(env_, error);
      }
      turning_ = false;
    }
    napi_close_handle_scope(env_, scope);
    if (poller_ != nullptr) {
      poller_->RelayDone();
    } else {
      DestroyContext();
    }
  }

  int Rewatch() {
    poller_->StopRelay();
    drive_->Unwatch();
    int error = drive_->Watch(poller_.get());
    if (error == 0) watched_ = poller_->incarnation();
    return error;
  }

  // Node's loop and the garbage collector forget what they were told; JavaScript, which forgets it too, tells them anew.
  void Rest() {
    pending_ = false;
    if (drive_ != nullptr) {
      drive_->SetSpin(false);
      drive_->SetRef(false);
    }
    SetHold(false);
  }

  void DestroyContext() {
    if (async_context_ != nullptr) napi_async_destroy(env_, std::exchange(async_context_, nullptr));
  }

  napi_env env_;
  std::unique_ptr<Poller> poller_;
  uint32_t generation_ = ForkGeneration();
  uint32_t watched_ = 0;  // the poller's incarnation that the drive watches
  std::span<Event> batch_;
  napi_ref batch_ref_ = nullptr;
  napi_ref turn_ref_ = nullptr;
  napi_async_context async_context_ = nullptr;
  Drive* drive_ = nullptr;
  bool forked_ = false;
  bool turning_ = false;  // JavaScript runs, inside Turn
  bool held_ = false;
  bool pending_ = false;
};

// ------------------------------------------------------------------------------------ what JavaScript sees

namespace {

// The function behind every export: takes the handle off the first argument, and is not reached by a closed loop or,
// unless `in_child`, by one that is the parent's.
template <size_t N, int (*function)(LoopHandle*, js::Call<N>&), bool in_child = false>
napi_value Method(napi_env env, napi_callback_info info) {
  js::Call<N> call(env, info);
  LoopHandle* handle = LoopHandle::From(env, call[0]);
  if (handle == nullptr || handle->closed()) return js::Int(env, -EBADF);
  int error = handle->Usable();
  if (error < 0 && !in_child) return js::Int(env, error);
  return js::Int(env, function(handle, call));
}

int PublicFd(LoopHandle* handle, js::Call<1>&) { return handle->poller()->PublicFd(); }

int SetBatch(LoopHandle* handle, js::Call<2>& call) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(call.env, call[1], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint32_array || length < 3) {
    return -EINVAL;
  }
  handle->SetBatch(call[1], {static_cast<Event*>(data), length / 3});
  return 0;
}

int Add(LoopHandle* handle, js::Call<5>& call) {
  uint32_t slot, generation, mask;
  int32_t fd;
  if (!call.Uint(1, &slot) || !call.Uint(2, &generation) || !call.Int(3, &fd) || !call.Uint(4, &mask)) {
    return -EINVAL;
  }
  int error = handle->poller()->Add(slot, generation, fd, mask);
  handle->UpdateSpin();
  return error;
}

int Modify(LoopHandle* handle, js::Call<3>& call) {
  uint32_t slot, mask;
  if (!call.Uint(1, &slot) || !call.Uint(2, &mask)) return -EINVAL;
  int error = handle->poller()->Modify(slot, mask);
  handle->UpdateSpin();
  return error;
}

int Remove(LoopHandle* handle, js::Call<2>& call) {
  uint32_t slot;
  if (!call.Uint(1, &slot)) return -EINVAL;
  handle->poller()->Remove(slot);
  handle->UpdateSpin();
  return 0;
}

int Wait(LoopHandle* handle, js::Call<2>& call) {
  double millis;
  return call.Number(1, &millis) ? handle->Wait(ToNanos(millis)) : -EINVAL;
}

int Wake(LoopHandle* handle, js::Call<1>&) {
  handle->poller()->Wake();
  return 0;
}

int SetAlarm(LoopHandle* handle, js::Call<2>& call) {
  double millis;
  if (!call.Number(1, &millis)) return -EINVAL;
  return handle->poller()->SetAlarm(millis < 0 ? -1 : ToNanos(millis));
}

int SetWallAlarm(LoopHandle* handle, js::Call<2>& call) {
  double millis;
  if (!call.Number(1, &millis)) return -EINVAL;
  return handle->poller()->SetWallAlarm(millis < 0 ? -1 : ToNanos(millis));
}

int StartDrive(LoopHandle* handle, js::Call<2>& call) { return handle->StartDrive(call[1]); }

template <void (LoopHandle::*set)(bool)>
int SetFlag(LoopHandle* handle, js::Call<2>& call) {
  bool value;
  if (!call.Bool(1, &value)) return -EINVAL;
  (handle->*set)(value);
  return 0;
}

int Recreate(LoopHandle* handle, js::Call<1>&) { return handle->Recreate(); }

int Close(LoopHandle* handle, js::Call<1>&) {
  handle->Close();
  return 0;
}

// open(backend): the handle, or a negative errno.
napi_value Open(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  char name[16] = "";
  napi_get_value_string_utf8(env, call[0], name, sizeof name, nullptr);
  auto chosen =
      std::ranges::find_if(kBackendNames, [&](auto& entry) { return strcmp(entry.name, name) == 0; });
  if (chosen == std::end(kBackendNames)) return js::Int(env, -EINVAL);
  int error = 0;
  auto poller = Poller::Create(chosen->backend, &error);
  if (poller == nullptr) return js::Int(env, error);
  auto* handle = new LoopHandle(env, std::move(poller));
  napi_value external;
  napi_create_external(
      env, handle, [](napi_env, void* data, void*) { delete static_cast<LoopHandle*>(data); }, nullptr,
      &external);
  napi_type_tag_object(env, external, &kLoopTag);
  return external;
}

// backends(): names of those that this machine can run, best first.
napi_value Backends(napi_env env, napi_callback_info) {
  napi_value names;
  napi_create_array(env, &names);
  uint32_t count = 0;
  for (Backend backend : Poller::Available()) {
    int error = 0;
    // Compiled in and refused by the kernel is as good as missing; a full table of descriptors says nothing.
    if (Poller::Create(backend, &error) == nullptr &&
        (error == -ENOSYS || error == -ENOTSUP || error == -EPERM)) {
      continue;
    }
    auto entry = std::ranges::find_if(kBackendNames, [&](auto& named) { return named.backend == backend; });
    napi_set_element(env, names, count++, js::String(env, entry->name));
  }
  return names;
}

// forkWord(): the word of native/forked.h.
napi_value ForkWordArray(napi_env env, napi_callback_info) {
  napi_value buffer, array = nullptr;
  ForkGeneration();
  if (napi_create_external_arraybuffer(env, ForkWord(), sizeof(uint32_t), nullptr, nullptr, &buffer) ==
      napi_ok) {
    napi_create_typedarray(env, napi_uint32_array, 1, buffer, 0, &array);
  }
  return array;
}

// descriptorError(fd): why the kernel reports ERR, as a positive errno.
napi_value DescriptorError(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t fd;
  if (!call.Int(0, &fd)) return js::Int(env, EINVAL);
  int error = 0;
  socklen_t length = sizeof error;
  // A pipe has no SO_ERROR: ERR on it means that the reader is gone.
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) error = errno == ENOTSOCK ? EPIPE : errno;
  return js::Int(env, error == 0 ? EIO : error);
}

// uncaught(error): what Node does about an error that nobody caught.
napi_value Uncaught(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  napi_fatal_exception(env, call[0]);
  return nullptr;
}

}  // namespace

Poller* PollerOf(napi_env env, napi_value handle) {
  LoopHandle* loop = LoopHandle::From(env, handle);
  return loop == nullptr ? nullptr : loop->poller();
}

void LoopsForked(napi_env env) {
  for (LoopHandle* loop : Addon::Of(env)->loops) {
    if (!loop->closed()) loop->Usable();
  }
}

napi_value MakeLoopExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "backends", Backends);
  js::SetFunction(env, exports, "open", Open);
  js::SetFunction(env, exports, "forkWord", ForkWordArray);
  js::SetFunction(env, exports, "processId",
                  [](napi_env e, napi_callback_info) { return js::Int(e, static_cast<int32_t>(getpid())); });
  js::SetFunction(env, exports, "fd", Method<1, PublicFd, true>);
  js::SetFunction(env, exports, "setBatch", Method<2, SetBatch, true>);
  js::SetFunction(env, exports, "add", Method<5, Add>);
  // Watchers may be stopped in a child, before the loop is re-created without them.
  js::SetFunction(env, exports, "modify", Method<3, Modify, true>);
  js::SetFunction(env, exports, "remove", Method<2, Remove, true>);
  js::SetFunction(env, exports, "wait", Method<2, Wait>);
  js::SetFunction(env, exports, "wake", Method<1, Wake>);
  js::SetFunction(env, exports, "setAlarm", Method<2, SetAlarm>);
  js::SetFunction(env, exports, "setWallAlarm", Method<2, SetWallAlarm>);
  js::SetFunction(env, exports, "startDrive", Method<2, StartDrive>);
  js::SetFunction(env, exports, "setRef", Method<2, SetFlag<&LoopHandle::SetRef>>);
  js::SetFunction(env, exports, "setHold", Method<2, SetFlag<&LoopHandle::SetHold>>);
  js::SetFunction(env, exports, "setPending", Method<2, SetFlag<&LoopHandle::SetPending>>);
  js::SetFunction(env, exports, "recreate", Method<1, Recreate, true>);
  js::SetFunction(env, exports, "close", Method<1, Close, true>);
  js::SetFunction(env, exports, "descriptorError", DescriptorError);
  js::SetFunction(env, exports, "uncaught", Uncaught);
  return exports;
}

}  // namespace forkbeard
