// Raw system calls on plain descriptors, as JavaScript functions that return a result or a negative errno.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeSysExports(napi_env env);

}  // namespace forkbeard
