// Who is whose child: becoming the parent of orphans, and being told of a parent's death. Knows no policy:
// lib/process/lineage.ts decides.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeLineageExports(napi_env env);

}  // namespace forkbeard
