// Children of node:child_process, or of whoever uses libuv. libuv reaps whatever has ended whenever one of its children has,
// also what has not been announced to us yet. So that nobody has to be quicker than it, its callback goes by us: the
// status that it got is kept for who watches.
#pragma once

#include <node_api.h>
#include <sys/types.h>

namespace forkbeard {

// From now on the status of this child is kept, if it is one of libuv's in this environment. False if it is none.
bool AttendLibuvs(napi_env env, pid_t pid);
// True and the status when libuv has reaped it meanwhile.
bool RecallLibuvs(pid_t pid, int* status);
// Nobody here wants to know any more.
void DisregardLibuvs(pid_t pid);

// In a forked child: what was kept is the parent's.
void LibuvsForked();

}  // namespace forkbeard
