// What JavaScript sees of the native floor: one object a concern, and nothing else.
#include "addon.h"

#include <node_api.h>

#include "child.h"
#include "fork.h"
#include "lifeline.h"
#include "lineage.h"
#include "loop.h"
#include "memory.h"
#include "signals.h"
#include "spawn.h"
#include "sys.h"

namespace {

void Export(napi_env env, napi_value exports, const char* name, napi_value (*make)(napi_env)) {
  napi_value concern = make(env);
  if (concern != nullptr) napi_set_named_property(env, exports, name, concern);
}

}  // namespace

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  auto* addon = new forkbeard::Addon;
  napi_set_instance_data(
      env, addon, [](napi_env, void* data, void*) { delete static_cast<forkbeard::Addon*>(data); }, nullptr);
  Export(env, exports, "loop", forkbeard::MakeLoopExports);
  Export(env, exports, "signals", forkbeard::MakeSignalExports);
  Export(env, exports, "child", forkbeard::MakeChildExports);
  Export(env, exports, "fork", forkbeard::MakeForkExports);
  Export(env, exports, "lifeline", forkbeard::MakeLifelineExports);
  Export(env, exports, "lineage", forkbeard::MakeLineageExports);
  Export(env, exports, "memory", forkbeard::MakeMemoryExports);
  Export(env, exports, "spawn", forkbeard::MakeSpawnExports);
  Export(env, exports, "sys", forkbeard::MakeSysExports);
  return exports;
}
