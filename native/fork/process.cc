#include "fork/process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "child.h"
#include "descriptors.h"
#include "fork/detached.h"
#include "fork/handles.h"
#include "fork/links.h"
#include "fork/moment.h"
#include "fork/unlisted.h"
#include "lifeline.h"
#include "loop.h"
#include "signals.h"

namespace forkbeard {

namespace {

// How long one try may wait for V8's threads while JavaScript stands still.
constexpr int64_t kOneTry = 25'000'000;

// Nothing of the parent's runs when this child gets a signal. What is ignored stays so.
void ResetDispositions() {
  for (int number = 1; number < NSIG; number++) {
    // V8's own handler turns bad WebAssembly accesses into exceptions; libuv's reaps what child_process starts, and
    // believes that it is there.
    if (number == SIGSEGV || number == SIGBUS || number == SIGCHLD) continue;
    struct sigaction action;
    if (sigaction(number, nullptr, &action) < 0) continue;
    bool handled =
        (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
    if (!handled) continue;
    struct sigaction none = {};
    none.sa_handler = SIG_DFL;
    sigaction(number, &none, nullptr);
  }
}

[[noreturn]] void EndWithReport(const Fd& report, int error) {
  while (write(report.get(), &error, sizeof error) < 0 && errno == EINTR) {
  }
  _exit(127);
}

// What was under way when the process forked is the parent's to end: requests in libuv's pool, done or not, those of
// handles that are cut off, and handles that were about to tell that they are closed. Before the child closes any itself.
// `left` requests are ended by the child's first turn.
void ForgetWork(uv_loop_t* loop, unsigned left) {
  loop->active_reqs.count = left;
  loop->closing_handles = nullptr;
  // A thread that is not here may have held it.
  uv_mutex_init(&loop->wq_mutex);
  EmptyList(&loop->wq);
}

// What must be right before the first JavaScript. All signals are blocked.
int BecomeChild(Forks* forks, const ForkRequest& request, const Fd& report) {
  if (int error = forks->hooks->child(); error < 0) return error;
  // The pidfds of what are now siblings, and the descriptors of the parent's lifeline, go before anything is opened.
  ChildrenForked();
  LifelineForked();
  ParentHandles handles(request);
  if (int error = handles.CutOff(forks->loop); error < 0) return error;
  ForgetWork(forks->loop, handles.forgotten_writes());
  if (int error = uv_loop_fork(forks->loop); error < 0) return error;
  handles.Release();
  LoopsForked(forks->env);
  SignalsForked();
  if (!request.Has(kKeepSignals)) ResetDispositions();
  StopWaiting(forks);
  if (request.Has(kListed)) {
    std::vector<int> keep(handles.numbers().begin(), handles.numbers().end());
    keep.push_back(handles.silence_peer());
    keep.push_back(report.get());
    CloseUnlisted(request, keep, forks->last_own_fd);
  }
  uv_update_time(forks->loop);
  forks->hooks->wake();
  return 0;
}

}  // namespace

Forks::Forks(napi_env environment) : env(environment) {
  napi_get_uv_event_loop(env, &loop);
  last_own_fd = std::max({loop->backend_fd, loop->signal_pipefd[0], loop->signal_pipefd[1],
                          loop->async_io_watcher.fd}) +
                1;
}

ForkOutcome ForkHere(Forks* forks, const ForkRequest& request) {
  ForkOutcome outcome;
  // What the parent has not written yet it will write once.
  fflush(nullptr);
  // A detached child reads from it as well, see WaitAtGate.
  const bool detached = request.Has(kDetached);
  int pipe[2];
  if (int error = detached ? MakeSocketPair(SOCK_STREAM, pipe) : MakePipe(pipe); error < 0) {
    outcome.pid = error;
    return outcome;
  }
  Fd read(pipe[0]), written(pipe[1]);
  if (int error = forks->hooks->prepare(kOneTry); error < 0) {
    outcome.pid = error;
    return outcome;
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  HoldLifeline();
  pid_t pid = detached ? ForkDetached() : fork();
  if (pid < 0 && !detached) pid = -errno;
  if (pid == 0) {
    read.Reset();
    if (detached && !WaitAtGate(written.get())) _exit(127);
    if (int failed = BecomeChild(forks, request, written); failed < 0) EndWithReport(written, failed);
    forks->report = std::move(written);
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    outcome.pid = 0;
    return outcome;
  }
  ReleaseLifeline();
  if (pid > 0 && detached) {
    outcome.pidfd = Fd(std::max(-1, PinDetached(pid)));
    OpenGate(read.get());
  }
  forks->hooks->parent();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  outcome.pid = pid;
  if (pid > 0) outcome.report = std::move(read);
  return outcome;
}

}  // namespace forkbeard
