// How a process ended, or that it has not: looked at, waited for, remembered. Never looks at any process but the one it is
// asked about, and reaps only when it is told to.
#pragma once

#include <sys/types.h>
#include <sys/wait.h>

namespace forkbeard {

// Every child, whichever signal its end sends.
#if defined(__linux__)
constexpr int kEveryChild = __WALL;
#else
constexpr int kEveryChild = 0;
#endif

// 1 and the status when the child has ended, 0 while it runs, or a negative errno: -ECHILD for what is no child of
// this process, or not any more. `options` beside WEXITED and WNOHANG: without WNOWAIT it is reaped.
int WaitForChild(pid_t pid, int pidfd, int options, int* status);

// For a process that we cannot wait for.
bool HasEnded(pid_t pid, int pidfd);

// How a process ended that somebody else has reaped, where the kernel remembers it.
bool IsRemembered(int pidfd, int* status);

}  // namespace forkbeard
