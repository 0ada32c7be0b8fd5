#include "lineage.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "js.h"
#include "pretend.h"

#if defined(__linux__)
#include <sys/prctl.h>
#endif
#if defined(__FreeBSD__)
#include <sys/procctl.h>
#include <sys/wait.h>
#endif

namespace forkbeard {

namespace {

// becomeSubreaper(): 0 or a negative errno.
napi_value BecomeSubreaper(napi_env env, napi_callback_info) {
  if (PretendMissing("subreaper")) return js::Int(env, -ENOSYS);
#if defined(__linux__)
  return js::Int(env, prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 ? -errno : 0);
#elif defined(__FreeBSD__)
  // EBUSY: it is one already.
  int result = procctl(P_PID, getpid(), PROC_REAP_ACQUIRE, nullptr);
  return js::Int(env, result < 0 && errno != EBUSY ? -errno : 0);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// setParentDeathSignal(number): 0 or a negative errno. 0 is none.
napi_value SetParentDeathSignal(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t number;
  if (!call.Int(0, &number) || number < 0) return js::Int(env, -EINVAL);
  if (PretendMissing("parent_death")) return js::Int(env, -ENOSYS);
#if defined(__linux__)
  return js::Int(env, prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) < 0 ? -errno : 0);
#elif defined(__FreeBSD__)
  return js::Int(env, procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &number) < 0 ? -errno : 0);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// parent(): the pid of our parent, 0 when it is outside our namespace.
napi_value Parent(napi_env env, napi_callback_info) { return js::Int(env, getppid()); }

}  // namespace

napi_value MakeLineageExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "becomeSubreaper", BecomeSubreaper);
  js::SetFunction(env, exports, "setParentDeathSignal", SetParentDeathSignal);
  js::SetFunction(env, exports, "parent", Parent);
  return exports;
}

}  // namespace forkbeard
