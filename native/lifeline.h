// The lifeline: a small thread that does what must be done when JavaScript does not come back. It ends the process when
// whoever holds the other end of a descriptor is gone, and on request has V8 interrupt JavaScript and writes its stack
// into shared memory. Knows threads and descriptors; of V8 only the hooks that forkbeard_v8.node brings. One a process.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeLifelineExports(napi_env env);

// Around a fork: the thread holds nothing, and none of V8's locks, between these two.
void HoldLifeline();
void ReleaseLifeline();
// In the child instead of ReleaseLifeline, before it makes any descriptor: the lifeline is the parent's.
void LifelineForked();

}  // namespace forkbeard
