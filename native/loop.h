// The native half of a Loop: a poller, the buffer that a batch is written to, and, in integrated mode, the handles
// that make Node's own event loop drive it.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeLoopExports(napi_env env);

}  // namespace forkbeard
