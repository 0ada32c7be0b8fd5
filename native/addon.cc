// What JavaScript sees of the native floor: one object a concern, and nothing else.
#include <node_api.h>

#include "sys.h"

namespace {

void Export(napi_env env, napi_value exports, const char* name, napi_value (*make)(napi_env)) {
  napi_value concern = make(env);
  if (concern != nullptr) napi_set_named_property(env, exports, name, concern);
}

}  // namespace

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  Export(env, exports, "sys", forkbeard::MakeSysExports);
  return exports;
}
