// A fork that waits for its moment: no JavaScript on the stack, nothing queued to run, no handle about to tell that it
// was closed, and V8's threads at rest. Made by fork.cc for each `loop.fork`; forks through process.cc.
#pragma once

#include <node_api.h>
#include <uv.h>

#include <cstdint>

#include "fork/process.h"

namespace forkbeard {

// Lives on an idle handle of Node's loop, which keeps it turning, and deletes itself.
class ForkMoment {
 public:
  // `deadline` as uv_hrtime counts.
  ForkMoment(Forks* forks, ForkRequest request, uint64_t deadline);
  ForkMoment(const ForkMoment&) = delete;
  ForkMoment& operator=(const ForkMoment&) = delete;

  // `quiet()` tells whether JavaScript has nothing queued, `done(pid, report, pidfd)` is called in both processes.
  int Start(napi_value quiet, napi_value done);
  void Stop() { uv_idle_stop(&idle_); }

 private:
  ~ForkMoment();

  // The same numbers in lib/process/native-fork.ts.
  enum class Calm { kNever = -1, kNotYet = 0, kSilenceable = 1, kQuiet = 2 };

  void Turn();
  Calm LookAround();
  void Tell(ForkOutcome outcome);
  void Close();

  Forks* const forks_;
  const ForkRequest request_;
  const uint64_t deadline_;
  uv_idle_t idle_;
  napi_async_context context_ = nullptr;
  napi_ref quiet_ = nullptr;
  napi_ref done_ = nullptr;
  int turns_ = 0;
  bool closing_ = false;
};

// In a child: forks that others asked for are the parent's to make.
void StopWaiting(Forks* forks);

}  // namespace forkbeard
