// The native half of a Loop: a poller, the buffer that a batch is written to, and, in integrated mode, the handles
// by which Node's own event loop drives it.
#pragma once

#include <node_api.h>

namespace forkbeard {

class LoopHandle;
class Poller;

napi_value MakeLoopExports(napi_env env);

// The poller behind a loop's handle; null for anything else. For those who must wake it.
Poller* PollerOf(napi_env env, napi_value handle);

// In a forked child, after uv_loop_fork and before any JavaScript: the loops of the parent, which all came along, are
// taken off Node's loop. They say so when they are used, until they are re-created or closed.
void LoopsForked(napi_env env);

}  // namespace forkbeard
