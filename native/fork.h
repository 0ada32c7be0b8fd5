// fork(2) of the whole process: the moment, the fork, and what must be put right in the child before any JavaScript
// runs there. Knows libuv and its loop; of V8 only the hooks that forkbeard_v8.node brings. What JavaScript can put
// right itself is lib/process/become-child.ts's.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeForkExports(napi_env env);

}  // namespace forkbeard
