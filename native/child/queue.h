// A kqueue with EVFILT_PROC, for loops of another kind that shall hear of the ends of processes without pidfds.
#pragma once

#include <node_api.h>

namespace forkbeard {

// openQueue, addToQueue, removeFromQueue and takeFromQueue, into `exports`.
void SetQueueExports(napi_env env, napi_value exports);

}  // namespace forkbeard
