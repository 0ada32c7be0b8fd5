// A fork whose child is not the caller's child but that of the nearest subreaper, or init's: a process in between forks
// again and ends. Called by process.cc in place of fork(2), with all signals blocked and V8 at rest.
#pragma once

#include <sys/types.h>

namespace forkbeard {

// As fork(2): 0 in the child, which waits at a Gate until its parent knows it; in the parent its pid, or a negative
// errno when either fork failed. When it returns in the parent, the process in between is reaped and the child has its
// new parent.
pid_t ForkDetached();

// In the child: waits until the parent has pinned it. False: it never will, and nobody knows of this process.
bool WaitAtGate(int fd);
// In the parent: a pidfd of the child, or a negative errno. Its number is nobody else's, because it waits.
int PinDetached(pid_t pid);
void OpenGate(int fd);

}  // namespace forkbeard
