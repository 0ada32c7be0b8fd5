// The parent's half of a spawn: how the child comes to be, and what is left when it fails.
//
// On Linux the child borrows our memory until its exec while this thread sleeps, so that nothing is copied, however
// large we are. Elsewhere, and where the kernel does not give that (an emulator that makes a plain fork of it, a
// sandbox that refuses it), it is a fork, and the report comes over a pipe: right, but as slow as our memory is large.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <mutex>

#if defined(__linux__)
#include <limits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#if !defined(CLONE_PIDFD)
#define CLONE_PIDFD 0x1000
#endif
#if !defined(SYS_close_range)
#define SYS_close_range 436
#endif
#endif

#include "descriptors.h"
#include "fd.h"
#include "pretend.h"
#include "spawn/child.h"
#include "spawn/plan.h"

namespace forkbeard {
namespace {

// All signals of this thread, libc's own included: no handler of ours may run in the child.
class SignalsBlocked {
 public:
#if defined(__linux__)
  SignalsBlocked() {
    const uint64_t all = UINT64_MAX;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old_, sizeof old_);
  }
  ~SignalsBlocked() { syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old_, nullptr, sizeof old_); }

 private:
  uint64_t old_ = 0;
#else
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }

 private:
  sigset_t old_;
#endif
};

void Reap(pid_t pid) {
  // ECHILD: children of this process are reaped by the kernel (SIGCHLD is ignored). It is gone then as well.
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

#if defined(__linux__)

// The child's stack is a piece of ours, which rests meanwhile.
constexpr size_t kStackSize = size_t{32} * 1024;

[[gnu::noinline]] int Clone(int (*function)(void*), void* argument, int flags, int* pidfd) {
  alignas(16) std::byte stack[kStackSize];
  pid_t pid = clone(function, stack + kStackSize, flags | CLONE_VM | CLONE_VFORK | SIGCHLD, argument, pidfd);
  return pid < 0 ? -errno : pid;
}

int SetFlag(void* argument) {
  *static_cast<std::atomic<bool>*>(argument) = true;
  for (;;) syscall(SYS_exit_group, 0);
}

// What the kernel said about CLONE_VM and CLONE_VFORK, once: qemu-user and WSL 1 take the flags and fork.
bool SharesMemory() {
  enum { kUnknown, kNo, kYes };
  static std::atomic<int> known = kUnknown;
  int answer = known.load(std::memory_order_relaxed);
  if (answer == kUnknown) {
    std::atomic<bool> flag = false;
    pid_t pid = Clone(SetFlag, &flag, 0, nullptr);
    // Out of processes for the moment: the fork will say so.
    if (pid == -EAGAIN || pid == -ENOMEM) return false;
    answer = pid > 0 && flag ? kYes : kNo;
    if (pid > 0) Reap(pid);
    known = answer;
  }
  return answer == kYes;
}

// Changing the user or group of a child that shares our memory makes that memory undumpable (commit_creds(9)), which
// keeps others from tracing the child, and that is as it should be until its exec; afterwards it would be ours alone
// that has no core dumps and a closed /proc. One at a time, or the end of one would open another's window.
class KeepsDumpable {
 public:
  explicit KeepsDumpable(bool needed) : needed_(needed) {
    if (!needed_) return;
    mutex_.lock();
    before_ = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
  }
  ~KeepsDumpable() {
    if (!needed_) return;
    if (before_ == 1) prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    mutex_.unlock();
  }

 private:
  static std::mutex mutex_;  // the memory is the process's, whatever the environment
  bool needed_;
  int before_ = -1;
};
std::mutex KeepsDumpable::mutex_;

bool WantsPidfd() { return !PretendMissing("pidfd_open") && !PretendMissing("clone_pidfd"); }

// A child that shares memory. 0, or a negative errno when there is no child.
int StartSharing(SpawnChild* child, SpawnOutcome* outcome) {
  KeepsDumpable guard(child->plan->set_uid || child->plan->set_gid);
  int pidfd = -1;
  // Without close_range, taking part in the table and un-sharing it may be refused in a sandbox (unshare(2)).
  child->shares_descriptors =
      child->closing == SpawnClosing::kRange && syscall(SYS_close_range, UINT_MAX, UINT_MAX, 0) == 0;
  int flags = child->shares_descriptors ? CLONE_FILES : 0;
  pid_t pid = Clone(RunSpawnChild, child, WantsPidfd() ? flags | CLONE_PIDFD : flags, &pidfd);
  // Kernels before 5.2 do not know the flag and leave pidfd alone; where it is refused we go without.
  if (pid == -EINVAL) pid = Clone(RunSpawnChild, child, flags, nullptr);
  if (pid < 0) return pid;
  outcome->pid = pid;
  outcome->pidfd = pidfd;
  return 0;
}

pid_t Fork(int* pidfd) {
  // Not libc's fork: it runs the handlers of pthread_atfork, which are for those who stay.
  constexpr unsigned long kFlags = SIGCHLD;
  long pid = -EINVAL;
  if (WantsPidfd()) {
    pid = syscall(SYS_clone, kFlags | CLONE_PIDFD, nullptr, pidfd, nullptr, nullptr);
    if (pid < 0) pid = -errno;
  }
  if (pid == -EINVAL || pid == -EPERM) {
    pid = syscall(SYS_clone, kFlags, nullptr, nullptr, nullptr, nullptr);
    if (pid < 0) pid = -errno;
  }
  return static_cast<pid_t>(pid);
}

#else

pid_t Fork(int*) {
  pid_t pid = fork();
  return pid < 0 ? -errno : pid;
}

#endif

// A child with a copy of our memory. Fills in the report from the pipe.
int StartCopying(SpawnChild* child, SpawnOutcome* outcome) {
  int ends[2];
  outcome->step = SpawnStep::kPipe;
  if (int error = MakePipe(ends); error < 0) return error;
  Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  SetNonBlocking(read_end.get(), false);
  child->status_pipe = write_end.get();
  child->shares_descriptors = false;
  outcome->step = SpawnStep::kFork;
  int pidfd = -1;
  pid_t pid = Fork(&pidfd);
  if (pid == 0) RunSpawnChild(child);
  if (pid < 0) return pid;
  write_end.Reset();
  SpawnReport report = {};
  ssize_t bytes;
  do {
    bytes = ::read(read_end.get(), &report, sizeof report);
  } while (bytes < 0 && errno == EINTR);
  if (bytes == sizeof report) *child->report = report;
  outcome->pid = pid;
  outcome->pidfd = pidfd;
  return 0;
}

SpawnClosing Closing() {
  if (!PretendMissing("close_range")) return SpawnClosing::kRange;
  return PretendMissing("proc_fd") ? SpawnClosing::kLoop : SpawnClosing::kScan;
}

}  // namespace

int StartProgram(SpawnPlan* plan, SpawnOutcome* outcome) {
  *outcome = {};
  outcome->step = SpawnStep::kFork;
  SpawnReport report = {};
  SpawnChild child = {plan, getpid(), &report, -1, false, Closing()};
  SignalsBlocked blocked;
  int error = -ENOSYS;
#if defined(__linux__)
  if (!PretendMissing("vfork") && SharesMemory()) error = StartSharing(&child, outcome);
#endif
  if (error == -ENOSYS || error == -EPERM || error == -EINVAL) error = StartCopying(&child, outcome);
  if (error < 0) return error;
  if (report.error == 0) {
    outcome->step = SpawnStep::kNone;
    return 0;
  }
  Fd pidfd(outcome->pidfd);
  Reap(outcome->pid);
  outcome->pid = -1;
  outcome->pidfd = -1;
  outcome->step = static_cast<SpawnStep>(report.step);
  outcome->fd = report.fd;
  return -report.error;
}

}  // namespace forkbeard
