// The sys functions as one object. See sys.h, and sys/registry.h for its parts.
#include "sys.h"

#include "js.h"
#include "sys/registry.h"

namespace forkbeard {

napi_value MakeSysExports(napi_env env) {
  napi_value exports = js::Object(env);
  sys::RegisterTransfer(env, exports);
  sys::RegisterSockets(env, exports);
  sys::RegisterDescriptors(env, exports);
  sys::RegisterMessages(env, exports);
  sys::RegisterOptions(env, exports);
  sys::RegisterProcess(env, exports);
  return exports;
}

}  // namespace forkbeard
