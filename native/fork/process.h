// The fork itself, here and now: V8's threads come to rest, the process is there twice, and the child is put right before
// any JavaScript runs in it. Called where no JavaScript is on the stack (moment.cc), or where its caller knows that it
// must not go on (fork.cc). Of V8 it knows only the hooks that forkbeard_v8.node brings.
#pragma once

#include <node_api.h>
#include <sys/types.h>
#include <uv.h>

#include <cstdint>
#include <vector>

#include "fd.h"
#include "fork/request.h"
#include "fork/threads.h"
#include "v8/fork_hooks.h"

namespace forkbeard {

class ForkMoment;

// What the addon keeps of forks for one environment.
struct Forks {
  explicit Forks(napi_env environment);

  napi_env env;
  uv_loop_t* loop = nullptr;
  const ForkHooks* hooks = nullptr;
  std::vector<ForkMoment*> waiting;
  int last_own_fd = 2;  // of the descriptors that Node opened for itself when it started
  Fd report;            // in a child, until it has reported
  Threads threads;
};

struct ForkOutcome {
  pid_t pid = -1;  // 0 in the child; a negative errno when there is none
  Fd report;       // the parent's end of the pipe on which the child says that it lives
  Fd pidfd;        // of a detached child, where there can be one
};

// -EBUSY: V8's threads did not come to rest in time, and no new work of theirs starts: try again, or abandon.
ForkOutcome ForkHere(Forks* forks, const ForkRequest& request);

}  // namespace forkbeard
