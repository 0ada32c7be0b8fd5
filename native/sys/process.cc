// Signals to processes, and the way out of this one.
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "js.h"
#include "sys/registry.h"

namespace forkbeard::sys {
namespace {

// (pid, signal)
napi_value Kill(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t pid, signal;
  if (!call.Int(0, &pid) || !call.Int(1, &signal)) return nullptr;
  return js::Int(env, kill(pid, signal) < 0 ? -errno : 0);
}

// (code)
napi_value Exit(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t code;
  if (!call.Int(0, &code)) return nullptr;
  _exit(code);
}

}  // namespace

void RegisterProcess(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "kill", Kill);
  js::SetFunction(env, exports, "exit", Exit);
#if defined(SIGRTMIN)
  // Not constants: the C library keeps some of them for itself and says so at run time.
  js::Set(env, exports, "SIGRTMIN", js::Int(env, SIGRTMIN));
  js::Set(env, exports, "SIGRTMAX", js::Int(env, SIGRTMAX));
#endif
}

}  // namespace forkbeard::sys
