// The child's half of a spawn. The order of its steps is the contract: see docs/children-and-signals.md.
#include "spawn/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#elif defined(__FreeBSD__)
#include <sys/procctl.h>
#endif

// Instrumented code keeps notes about memory and threads that are the parent's here.
#define FORKBEARD_BARE __attribute__((no_sanitize("address", "thread", "undefined")))

namespace forkbeard {
namespace {

// ------------------------------------------------------------------------------------------- the kernel's calls
// On Linux the system calls themselves: libc's setuid and its kin tell every thread of the process to follow (and
// share memory with us, so they would find the parent's), and others take locks that a parent's thread may hold.
// Each returns a result or a negative errno. `errno` is the calling thread's; it sleeps meanwhile and does not look.

#if defined(__linux__)

constexpr int kSignals = 64;
constexpr unsigned kUnshare = 1u << 1;  // CLOSE_RANGE_UNSHARE
#if !defined(SYS_close_range)
#define SYS_close_range 436
#endif

template <typename... Arguments>
FORKBEARD_BARE inline long Raw(long number, Arguments... arguments) {
  long result = ::syscall(number, arguments...);
  return result == -1 ? -errno : result;
}

FORKBEARD_BARE int CopyTo(int source, int target) {
  return static_cast<int>(Raw(SYS_dup3, source, target, 0));
}
FORKBEARD_BARE int CopyAbove(int source, int least) {
  return static_cast<int>(Raw(SYS_fcntl, source, F_DUPFD_CLOEXEC, least));
}
FORKBEARD_BARE int DescriptorFlags(int fd, int flags) {
  return static_cast<int>(Raw(SYS_fcntl, fd, F_SETFD, flags));
}
FORKBEARD_BARE int StatusFlags(int fd) { return static_cast<int>(Raw(SYS_fcntl, fd, F_GETFL, 0)); }
FORKBEARD_BARE int SetStatusFlags(int fd, int flags) {
  return static_cast<int>(Raw(SYS_fcntl, fd, F_SETFL, flags));
}
FORKBEARD_BARE int OpenFile(const char* path, int flags, mode_t mode) {
#if defined(O_LARGEFILE)
  flags |= O_LARGEFILE;
#endif
  return static_cast<int>(Raw(SYS_openat, AT_FDCWD, path, flags, mode));
}
FORKBEARD_BARE void CloseOne(int fd) { Raw(SYS_close, fd); }
FORKBEARD_BARE int NewSession() { return static_cast<int>(Raw(SYS_setsid)); }
FORKBEARD_BARE int EnterGroup(pid_t group) { return static_cast<int>(Raw(SYS_setpgid, 0, group)); }
FORKBEARD_BARE pid_t Parent() { return static_cast<pid_t>(Raw(SYS_getppid)); }
FORKBEARD_BARE void SetUmask(int mask) { Raw(SYS_umask, mask); }
FORKBEARD_BARE int SetNice(int nice) { return static_cast<int>(Raw(SYS_setpriority, PRIO_PROCESS, 0, nice)); }
FORKBEARD_BARE int ChangeDirectory(const char* path) { return static_cast<int>(Raw(SYS_chdir, path)); }
FORKBEARD_BARE int SetGroups(size_t count, const gid_t* groups) {
  return static_cast<int>(Raw(SYS_setgroups, count, groups));
}
FORKBEARD_BARE int SetGid(gid_t gid) { return static_cast<int>(Raw(SYS_setresgid, gid, gid, gid)); }
FORKBEARD_BARE int SetUid(uid_t uid) { return static_cast<int>(Raw(SYS_setresuid, uid, uid, uid)); }
FORKBEARD_BARE int SetDeathSignal(int signal) {
  return static_cast<int>(Raw(SYS_prctl, PR_SET_PDEATHSIG, signal, 0, 0, 0));
}
FORKBEARD_BARE void SignalSelf(int signal) { Raw(SYS_kill, Raw(SYS_getpid), signal); }
FORKBEARD_BARE int Execute(const char* path, char* const* arguments, char* const* environment) {
  return static_cast<int>(Raw(SYS_execve, path, arguments, environment));
}
FORKBEARD_BARE void WriteAll(int fd, const void* bytes, size_t length) { Raw(SYS_write, fd, bytes, length); }
[[noreturn]] FORKBEARD_BARE void Leave() {
  for (;;) Raw(SYS_exit_group, 127);
}

FORKBEARD_BARE int ReadLimit(int resource, SpawnLimit::Pair* limit) {
  return static_cast<int>(Raw(SYS_prlimit64, 0, resource, nullptr, limit));
}
FORKBEARD_BARE int SetLimit(int resource, const SpawnLimit::Pair* limit) {
  return static_cast<int>(Raw(SYS_prlimit64, 0, resource, limit, nullptr));
}

// The kernel's sigaction, which libc's differs from. All zero is SIG_DFL, no flags, an empty mask, on every machine.
FORKBEARD_BARE void ResetDispositions() {
  const uint64_t action[4] = {0, 0, 0, 0};
  for (int signal = 1; signal <= kSignals; ++signal) {
    if (signal != SIGKILL && signal != SIGSTOP) Raw(SYS_rt_sigaction, signal, action, nullptr, 8);
  }
}
FORKBEARD_BARE void EmptyMask() {
  const uint64_t mask = 0;
  Raw(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, 8);
}

#else

FORKBEARD_BARE int Result(int result) { return result < 0 ? -errno : result; }

FORKBEARD_BARE int CopyTo(int source, int target) { return Result(dup2(source, target)); }
FORKBEARD_BARE int CopyAbove(int source, int least) { return Result(fcntl(source, F_DUPFD_CLOEXEC, least)); }
FORKBEARD_BARE int DescriptorFlags(int fd, int flags) { return Result(fcntl(fd, F_SETFD, flags)); }
FORKBEARD_BARE int StatusFlags(int fd) { return Result(fcntl(fd, F_GETFL)); }
FORKBEARD_BARE int SetStatusFlags(int fd, int flags) { return Result(fcntl(fd, F_SETFL, flags)); }
FORKBEARD_BARE int OpenFile(const char* path, int flags, mode_t mode) {
  return Result(open(path, flags, mode));
}
FORKBEARD_BARE void CloseOne(int fd) { close(fd); }
FORKBEARD_BARE int NewSession() { return Result(setsid()); }
FORKBEARD_BARE int EnterGroup(pid_t group) { return Result(setpgid(0, group)); }
FORKBEARD_BARE pid_t Parent() { return getppid(); }
FORKBEARD_BARE void SetUmask(int mask) { umask(static_cast<mode_t>(mask)); }
FORKBEARD_BARE int SetNice(int nice) { return Result(setpriority(PRIO_PROCESS, 0, nice)); }
FORKBEARD_BARE int ChangeDirectory(const char* path) { return Result(chdir(path)); }
FORKBEARD_BARE int SetGroups(size_t count, const gid_t* groups) {
  return Result(setgroups(static_cast<int>(count), groups));
}
FORKBEARD_BARE int SetGid(gid_t gid) { return Result(setgid(gid)); }
FORKBEARD_BARE int SetUid(uid_t uid) { return Result(setuid(uid)); }
FORKBEARD_BARE int SetDeathSignal(int signal) {
#if defined(__FreeBSD__)
  return Result(procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &signal));
#else
  (void)signal;
  return -ENOTSUP;
#endif
}
FORKBEARD_BARE void SignalSelf(int signal) { kill(getpid(), signal); }
FORKBEARD_BARE int Execute(const char* path, char* const* arguments, char* const* environment) {
  return Result(execve(path, arguments, environment));
}
FORKBEARD_BARE void WriteAll(int fd, const void* bytes, size_t length) {
  ssize_t written = write(fd, bytes, length);
  (void)written;
}
[[noreturn]] FORKBEARD_BARE void Leave() { _exit(127); }

FORKBEARD_BARE int ReadLimit(int resource, SpawnLimit::Pair* limit) {
  struct rlimit value;
  if (getrlimit(resource, &value) < 0) return -errno;
  limit->soft = value.rlim_cur == RLIM_INFINITY ? UINT64_MAX : value.rlim_cur;
  limit->hard = value.rlim_max == RLIM_INFINITY ? UINT64_MAX : value.rlim_max;
  return 0;
}
FORKBEARD_BARE int SetLimit(int resource, const SpawnLimit::Pair* limit) {
  struct rlimit value;
  value.rlim_cur = limit->soft == UINT64_MAX ? RLIM_INFINITY : limit->soft;
  value.rlim_max = limit->hard == UINT64_MAX ? RLIM_INFINITY : limit->hard;
  return Result(setrlimit(resource, &value));
}
FORKBEARD_BARE void ResetDispositions() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &action, nullptr);
}
FORKBEARD_BARE void EmptyMask() {
  sigset_t mask;
  sigemptyset(&mask);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
}

#endif

// --------------------------------------------------------------------------------------------------- reporting

[[noreturn]] FORKBEARD_BARE void Fail(const SpawnChild& child, SpawnStep step, int error, int fd = -1) {
  child.report->step = static_cast<int32_t>(step);
  child.report->fd = fd;
  child.report->error = -error;
  if (child.status_pipe >= 0) WriteAll(child.status_pipe, child.report, sizeof *child.report);
  Leave();
}

FORKBEARD_BARE void Require(const SpawnChild& child, SpawnStep step, int result, int fd = -1) {
  if (result < 0) Fail(child, step, result, fd);
}

// -------------------------------------------------------------------------------------------- closing the rest

// Descriptors that stay, in ascending order: a row of the plan, and the status pipe, wherever it stands.
class Kept {
 public:
  FORKBEARD_BARE Kept(const int* numbers, size_t count, size_t stride, int extra)
      : numbers_(numbers), count_(count), stride_(stride), extra_(extra) {}

  // The next number that stays after `fd`; -1 when there is none.
  FORKBEARD_BARE int After(int fd) const {
    int next = extra_ > fd ? extra_ : -1;
    for (size_t i = 0; i < count_; ++i) {
      int number = At(i);
      if (number > fd) return next < 0 || number < next ? number : next;
    }
    return next;
  }
  FORKBEARD_BARE bool Has(int fd) const { return After(fd - 1) == fd; }

 private:
  FORKBEARD_BARE int At(size_t index) const {
    return *reinterpret_cast<const int*>(reinterpret_cast<const char*>(numbers_) + index * stride_);
  }
  const int* numbers_;
  size_t count_;
  size_t stride_;
  int extra_;
};

#if defined(__linux__)

FORKBEARD_BARE int CloseRange(unsigned first, unsigned last, unsigned flags) {
  return static_cast<int>(Raw(SYS_close_range, first, last, flags));
}

FORKBEARD_BARE bool CloseByRange(const Kept& kept) {
  int last = -1;
  for (;;) {
    int next = kept.After(last);
    unsigned from = static_cast<unsigned>(last + 1);
    if (next < 0) return CloseRange(from, UINT_MAX, 0) == 0;
    if (from < static_cast<unsigned>(next) && CloseRange(from, static_cast<unsigned>(next) - 1, 0) < 0)
      return false;
    last = next;
  }
}

FORKBEARD_BARE int Number(const char* text) {
  if (*text == '\0') return -1;
  int number = 0;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9') return -1;
    number = number * 10 + (*text - '0');
  }
  return number;
}

// proc lists descriptors by number, so entries that go while it is read leave no gap.
FORKBEARD_BARE bool CloseByScan(const Kept& kept) {
  int directory = OpenFile("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (directory < 0) return false;
  struct Entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
  };
  alignas(Entry) char buffer[2048];
  for (;;) {
    long bytes = Raw(SYS_getdents64, directory, buffer, sizeof buffer);
    if (bytes <= 0) {
      CloseOne(directory);
      return bytes == 0;
    }
    for (long at = 0; at < bytes;) {
      const Entry* entry = reinterpret_cast<const Entry*>(buffer + at);
      int fd = Number(entry->name);
      if (fd >= 0 && fd != directory && !kept.Has(fd)) CloseOne(fd);
      at += entry->length;
    }
  }
}

#elif defined(__FreeBSD__)

FORKBEARD_BARE bool CloseByRange(const Kept& kept) {
  int last = -1;
  for (;;) {
    int next = kept.After(last);
    unsigned from = static_cast<unsigned>(last + 1);
    if (next < 0) return close_range(from, UINT_MAX, 0) == 0;
    if (from < static_cast<unsigned>(next) && close_range(from, static_cast<unsigned>(next) - 1, 0) < 0)
      return false;
    last = next;
  }
}
FORKBEARD_BARE bool CloseByScan(const Kept&) { return false; }

#else

FORKBEARD_BARE bool CloseByRange(const Kept&) { return false; }
// Reading a directory allocates there.
FORKBEARD_BARE bool CloseByScan(const Kept&) { return false; }

#endif

// The last resort. A descriptor may stand above a limit that was lowered since, hence the hard one; and where that
// is none, the number that Linux allows at most by default (fs.nr_open).
FORKBEARD_BARE void CloseByLoop(const Kept& kept) {
  constexpr int kMost = 1024 * 1024;
  SpawnLimit::Pair limit;
  int most = kMost;
  if (ReadLimit(RLIMIT_NOFILE, &limit) == 0 && limit.hard < static_cast<uint64_t>(kMost)) {
    most = static_cast<int>(limit.hard);
  }
  for (int fd = 0; fd < most; ++fd) {
    if (!kept.Has(fd)) CloseOne(fd);
  }
}

FORKBEARD_BARE void CloseAllBut(const SpawnChild& child, const Kept& kept) {
  if (child.closing == SpawnClosing::kRange && CloseByRange(kept)) return;
  if (child.closing != SpawnClosing::kLoop && CloseByScan(kept)) return;
  CloseByLoop(kept);
}

// ------------------------------------------------------------------------------------------------- descriptors

#if defined(__linux__)
// Takes a table of its own, and copies no more of the parent's than it needs: a server with ten thousand connections
// would pay a millisecond for the rest. Rounded up to a word of the kernel's bitmap, because kernels before 6.11
// copied the bits of the whole last word (torvalds/linux 9a2fa1472083) and those numbers would seem to be in use.
FORKBEARD_BARE int Unshare(int highest) {
  unsigned from = (static_cast<unsigned>(highest) + 64) & ~63u;
  if (CloseRange(from, UINT_MAX, kUnshare) == 0) return 0;
  return static_cast<int>(Raw(SYS_unshare, CLONE_FILES));
}
#endif

// A free number that is no target. The kernel calls a number beyond the limit of descriptors an invalid argument here,
// and a bad descriptor elsewhere.
FORKBEARD_BARE int Save(int fd, int highest_target) {
  int copy = CopyAbove(fd, highest_target + 1);
  return copy == -EINVAL ? -EBADF : copy;
}

FORKBEARD_BARE void MakeBlocking(int fd) {
  int flags = StatusFlags(fd);
  if (flags >= 0 && (flags & O_NONBLOCK) != 0) SetStatusFlags(fd, flags & ~O_NONBLOCK);
}

FORKBEARD_BARE void OpenInto(const SpawnChild& child, const SpawnDescriptor& descriptor) {
  int target = descriptor.target;
  // A FIFO without a peer or a serial line without a carrier would hold the parent up; and a session leader would
  // get a controlling terminal that nobody asked for.
  int fd = OpenFile(descriptor.path, descriptor.flags | O_NONBLOCK | O_NOCTTY, descriptor.mode);
  Require(child, SpawnStep::kOpen, fd, target);
  if ((descriptor.flags & O_NONBLOCK) == 0) MakeBlocking(fd);
  if (fd == target) return;
  Require(child, SpawnStep::kDescriptor, CopyTo(fd, target), target);
  CloseOne(fd);
}

FORKBEARD_BARE void CopyInto(const SpawnChild& child, const SpawnDescriptor& descriptor) {
  int target = descriptor.target;
  int result = descriptor.source == target ? DescriptorFlags(target, 0) : CopyTo(descriptor.source, target);
  Require(child, SpawnStep::kDescriptor, result, target);
  // Programs expect to wait on these three, and Node makes what it touches non-blocking.
  if (target <= 2) MakeBlocking(target);
}

FORKBEARD_BARE void ArrangeDescriptors(SpawnChild* child) {
  SpawnPlan* plan = child->plan;
  SpawnDescriptor* descriptors = plan->descriptors.data();
  const size_t count = plan->descriptors.size();
  const int highest_target = count == 0 ? -1 : descriptors[count - 1].target;

#if defined(__linux__)
  if (child->shares_descriptors) {
    Require(*child, SpawnStep::kClose, Unshare(plan->sources.empty() ? -1 : plan->sources.back()));
  }
#endif
  if (child->status_pipe >= 0 && child->status_pipe <= highest_target) {
    int moved = Save(child->status_pipe, highest_target);
    Require(*child, SpawnStep::kDescriptor, moved, highest_target);
    child->status_pipe = moved;
  }
  // First of all make room: the parent may be at its limit of descriptors, and we have the same one.
  CloseAllBut(*child, Kept(plan->sources.data(), plan->sources.size(), sizeof(int), child->status_pipe));

  bool left_over = false;  // a source that is no target, or a copy of one
  for (size_t i = 0; i < count; ++i) {
    left_over = left_over || descriptors[i].path != nullptr || descriptors[i].source != descriptors[i].target;
    if (!descriptors[i].clobbered) continue;
    int copy = Save(descriptors[i].source, highest_target);
    Require(*child, SpawnStep::kDescriptor, copy, highest_target);
    descriptors[i].source = copy;
  }
  for (size_t i = 0; i < count; ++i) {
    if (descriptors[i].path != nullptr) {
      OpenInto(*child, descriptors[i]);
    } else {
      CopyInto(*child, descriptors[i]);
    }
  }
  if (!left_over) return;
  const int* targets = count == 0 ? nullptr : &descriptors->target;
  CloseAllBut(*child, Kept(targets, count, sizeof(SpawnDescriptor), child->status_pipe));
}

// --------------------------------------------------------------------------------------- everything but descriptors

FORKBEARD_BARE void EnterItsGroup(const SpawnChild& child) {
  switch (child.plan->group) {
    case SpawnGroup::kInherit:
      break;
    // In the child alone: the parent does not run before the program does, so nobody sees it outside its group.
    case SpawnGroup::kNew:
      Require(child, SpawnStep::kGroup, EnterGroup(0));
      break;
    case SpawnGroup::kSession:
      Require(child, SpawnStep::kSession, NewSession());
      break;
    case SpawnGroup::kJoin:
      Require(child, SpawnStep::kGroup, EnterGroup(child.plan->group_to_join));
      break;
  }
}

FORKBEARD_BARE void SetLimits(const SpawnChild& child) {
  const SpawnLimit* limits = child.plan->limits.data();
  for (size_t i = 0; i < child.plan->limits.size(); ++i) {
    SpawnLimit::Pair value = limits[i].value;
    if (limits[i].keep_hard) {
      SpawnLimit::Pair old;
      Require(child, SpawnStep::kLimit, ReadLimit(limits[i].resource, &old));
      value.hard = old.hard;
    }
    Require(child, SpawnStep::kLimit, SetLimit(limits[i].resource, &value));
  }
}

// Groups first, the user last: each needs the rights that the next one takes away.
FORKBEARD_BARE void DropRights(const SpawnChild& child) {
  const SpawnPlan& plan = *child.plan;
  if (plan.set_groups) {
    int result = SetGroups(plan.groups.size(), plan.groups.data());
    if (result != -EPERM || !plan.groups_may_fail) Require(child, SpawnStep::kGroups, result);
  }
  if (plan.set_gid) Require(child, SpawnStep::kGid, SetGid(plan.gid));
  if (plan.set_uid) Require(child, SpawnStep::kUid, SetUid(plan.uid));
}

// After the change of user, which clears it.
FORKBEARD_BARE void FollowParent(const SpawnChild& child) {
  int signal = child.plan->death_signal;
  if (signal == 0) return;
  Require(child, SpawnStep::kDeathSignal, SetDeathSignal(signal));
  // It tells of deaths to come only. Pending until the mask is emptied.
  if (Parent() != child.parent) SignalSelf(signal);
}

// As execvp searches, but a file that is no program is a failure: no shell steps in.
FORKBEARD_BARE int ExecuteFirst(const SpawnPlan& plan) {
  int result = -ENOENT;
  bool denied = false;
  for (const char* const* candidate = plan.candidates; *candidate != nullptr; ++candidate) {
    result = Execute(*candidate, plan.arguments, plan.environment);
    switch (result) {
      case -EACCES:
        denied = true;
        break;
      case -ENOENT:
      case -ENOTDIR:
      case -ENODEV:
      case -ESTALE:
      case -ETIMEDOUT:
        break;
      default:
        return result;
    }
  }
  return denied ? -EACCES : result;
}

}  // namespace

FORKBEARD_BARE int RunSpawnChild(void* argument) {
  SpawnChild child = *static_cast<SpawnChild*>(argument);
  const SpawnPlan& plan = *child.plan;
  // All signals are blocked. They stay so until nothing of the parent's can run on them any more, and a stop from the
  // terminal cannot catch us, and the parent with us, half-way.
  ResetDispositions();
  EnterItsGroup(child);
  ArrangeDescriptors(&child);
  if (plan.umask != SpawnPlan::kUnset) SetUmask(plan.umask);
  if (plan.set_nice) Require(child, SpawnStep::kNice, SetNice(plan.nice));
  SetLimits(child);
  if (plan.directory != nullptr) Require(child, SpawnStep::kDirectory, ChangeDirectory(plan.directory));
  DropRights(child);
  FollowParent(child);
  EmptyMask();
  Fail(child, SpawnStep::kExec, ExecuteFirst(plan));
}

}  // namespace forkbeard
