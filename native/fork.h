// fork(2) of the whole process, as JavaScript sees it (lib/process/native-fork.ts). The moment, the fork, and what must
// be put right in the child before any JavaScript runs there are in fork/; what JavaScript can put right itself is
// lib/process/become-child.ts's.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeForkExports(napi_env env);

}  // namespace forkbeard
