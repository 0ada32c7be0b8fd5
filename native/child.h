// Processes and how they end: watched through descriptors that become readable (a pidfd, or a kqueue with EVFILT_PROC),
// looked at without being reaped, reaped one by one, signalled without a chance to meet a stranger. Knows no policy:
// lib/process/ decides who is waited for and who reaps.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeChildExports(napi_env env);

// In a forked child, before it makes any descriptor: closes the pidfds, which are those of its siblings.
void ChildrenForked();

}  // namespace forkbeard
