// Plain descriptors: pipes, duplicates, flags, the end.
#include "descriptors.h"

#include <errno.h>
#include <unistd.h>

#include <cstdint>

#include "js.h"
#include "sys/registry.h"

namespace forkbeard::sys {
namespace {

// (out): read end and write end in `out`
napi_value Pipe(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  std::span<int32_t> out;
  if (!call.Ints(0, 2, &out)) return nullptr;
  return js::Int(env, MakePipe(out.data()));
}

// (fd)
napi_value Close(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t fd;
  if (!call.Int(0, &fd) || fd < 0) return nullptr;
  // Interrupted, it is closed all the same on every kernel that this runs on: repeating could close a stranger.
  return js::Int(env, close(fd) < 0 && errno != EINTR ? -errno : 0);
}

// (fd, atLeast)
napi_value Dup(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t fd, at_least;
  if (!call.Int(0, &fd) || fd < 0 || !call.Int(1, &at_least)) return nullptr;
  return js::Int(env, Duplicate(fd, at_least));
}

// (fd, on)
napi_value SetFlag(napi_env env, napi_callback_info info, int (*set)(int, bool)) {
  js::Call<2> call(env, info);
  int32_t fd;
  bool on;
  if (!call.Int(0, &fd) || fd < 0 || !call.Bool(1, &on)) return nullptr;
  return js::Int(env, set(fd, on));
}
napi_value NonBlocking(napi_env env, napi_callback_info info) { return SetFlag(env, info, SetNonBlocking); }
napi_value CloseOnExec(napi_env env, napi_callback_info info) { return SetFlag(env, info, SetCloseOnExec); }

void CloseAtEnd(void* fd) { close(static_cast<int>(reinterpret_cast<intptr_t>(fd))); }

// (fd, on): whether it is closed when the environment ends, which a Worker's may do between two lines of JavaScript
napi_value CloseWithEnvironment(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t fd;
  bool on;
  if (!call.Int(0, &fd) || fd < 0 || !call.Bool(1, &on)) return nullptr;
  void* data = reinterpret_cast<void*>(static_cast<intptr_t>(fd));
  (on ? napi_add_env_cleanup_hook : napi_remove_env_cleanup_hook)(env, CloseAtEnd, data);
  return js::Int(env, 0);
}

}  // namespace

void RegisterDescriptors(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "pipe", Pipe);
  js::SetFunction(env, exports, "close", Close);
  js::SetFunction(env, exports, "closeWithEnvironment", CloseWithEnvironment);
  js::SetFunction(env, exports, "dup", Dup);
  js::SetFunction(env, exports, "setNonBlocking", NonBlocking);
  js::SetFunction(env, exports, "setCloseOnExec", CloseOnExec);
}

}  // namespace forkbeard::sys
