#include "shim/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#if defined(__linux__)
#include <sys/prctl.h>
#elif defined(__FreeBSD__)
#include <sys/procctl.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "descriptors.h"
#include "pretend.h"
#include "process_table.h"
#include "spawn/child.h"

namespace forkbeard::shim {
namespace {

constexpr size_t kMost = 1024;

// Programs of socket activation want to read their own number, which nobody knows before they exist.
void FillInListenPid(char* const* environment) {
  static constexpr char kName[] = "LISTEN_PID=";
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    if (strncmp(*environment, kName, sizeof kName - 1) != 0) continue;
    char* value = *environment + sizeof kName - 1;
    const size_t room = strlen(value);
    char number[16];
    int length = snprintf(number, sizeof number, "%d", static_cast<int>(getpid()));
    if (length > 0 && static_cast<size_t>(length) <= room)
      memcpy(value, number, static_cast<size_t>(length) + 1);
  }
}

[[noreturn]] void RunChild(Plan* plan, int hold, int report) {
  char go;
  ssize_t count;
  do {
    count = read(hold, &go, 1);
  } while (count < 0 && errno == EINTR);
  // The shim gave it up, or is gone.
  if (count != 1) _exit(127);
  FillInListenPid(plan->spawn.environment);
  SpawnReport place = {};
  SpawnChild child = {&plan->spawn, getppid(), &place, report, false, SpawnClosing::kRange};
  RunSpawnChild(&child);
  _exit(127);
}

int Status(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return (info.si_status & 0xff) << 8;
  return info.si_code == CLD_DUMPED ? info.si_status | 0x80 : info.si_status;
}

bool IsIn(const std::vector<int32_t>& list, int32_t pid) {
  return std::find(list.begin(), list.end(), pid) != list.end();
}

// A list that may be longer than one thinks. 0 or a negative errno: then nothing is in it, and nothing is known.
template <typename Read>
int List(Read read, std::vector<int32_t>* list) {
  list->resize(kMost);
  int count = read(*list);
  while (count > static_cast<int>(list->size())) {
    list->resize(static_cast<size_t>(count));
    count = read(*list);
  }
  list->resize(static_cast<size_t>(std::max(count, 0)));
  return std::min(count, 0);
}

int ListChildren(std::vector<int32_t>* list) {
  return List([](std::span<int32_t> out) { return OwnChildren(out); }, list);
}

}  // namespace

int Tree::Prepare(Plan* plan) {
  if (!PretendMissing("subreaper")) {
#if defined(__linux__)
    adopts_ = prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
#elif defined(__FreeBSD__)
    adopts_ = procctl(P_PID, 0, PROC_REAP_ACQUIRE, nullptr) == 0;
#endif
  }
  // Orphans that come to us and cannot be seen are no promise.
  ProcessRow self;
  if (adopts_ && !ReadProcess(getpid(), &self)) {
    // A shortage passes; what is promised less of now would be so for good.
    if (IsShortage(errno)) return -errno;
    adopts_ = false;
  }
  int hold[2], report[2];
  if (int error = MakePipe(hold); error < 0) return error;
  Fd hold_read(hold[0]);
  hold_ = Fd(hold[1]);
  if (int error = MakePipe(report); error < 0) return error;
  report_ = Fd(report[0]);
  Fd report_write(report[1]);
  SetNonBlocking(hold_read.get(), false);
  SetNonBlocking(report_.get(), false);
  // Nothing of ours may run in the child: it goes from here to its program with all signals blocked.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  if (pid == 0) {
    hold_.Reset();
    RunChild(plan, hold_read.get(), report_write.get());
  }
  const int error = errno;
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return -error;
  pid_ = pid;
  return 0;
}

int Tree::Release(Refusal* refusal) {
  const char go = 1;
  if (write(hold_.get(), &go, 1) != 1) {
    // It was ended from outside while it waited.
    Abandon();
    refusal->where = "fork";
    return -ECHILD;
  }
  hold_.Reset();
  SpawnReport report = {};
  char bytes[sizeof report];
  ssize_t count;
  do {
    count = read(report_.get(), bytes, sizeof bytes);
  } while (count < 0 && errno == EINTR);
  report_.Reset();
  if (count != sizeof report) return 0;
  memcpy(static_cast<void*>(&report), bytes, sizeof report);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
  refusal->step = report.step;
  refusal->fd = report.fd;
  return -report.error;
}

void Tree::Abandon() {
  hold_.Reset();
  report_.Reset();
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

bool Tree::Reap() {
  if (pid_ == 0) return false;
  bool first = false;
  if (!ended_) {
    // Whatever has ended, and is not the first process, is one that we were given.
    for (;;) {
      siginfo_t info = {};
      if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) break;
      if (info.si_pid == pid_) {
        ended_ = first = true;
        status_ = Status(info);
        break;
      }
      waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG);
    }
  }
  if (!ended_) {
    // In this order: a stop is told only for as long as it lasts, the end of one even when there is another since. What
    // changes meanwhile is another SIGCHLD. Neither touches how it ended.
    if (HasBecome(WCONTINUED)) stopped_ = false;
    if (HasBecome(WSTOPPED)) stopped_ = true;
  }
  if (ended_ && pid_ != 0) Settle();
  return first;
}

bool Tree::HasBecome(int what) const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, what | WNOHANG) == 0 && info.si_pid != 0;
}

// From here on the first one lies before all others, and they have to be looked for. A process whose parent ends while
// we look may be missed in this place, but not its parent: so until nothing at all is found, twice over if need be.
void Tree::Settle() {
  std::vector<int32_t> list;
  for (bool reaped = true; reaped;) {
    reaped = false;
    bool alive = false;
    unseen_ = ListChildren(&list);
    // Where orphans do not come to us there may be no such list, and the group is all that can be asked.
    if (unseen_ == -ENOSYS && !adopts_) unseen_ = 0;
    if (unseen_ < 0) return;
    for (int32_t child : list) {
      siginfo_t info = {};
      if (child == pid_) continue;
      if (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0) {
        reaped = true;
      } else {
        alive = true;
      }
    }
    if (alive) return;
  }
  if (!adopts_) {
    int members = GroupMembers(pid_, {});
    // Where that cannot be asked either, it never can.
    if (members < 0 && members != -ENOSYS) unseen_ = members;
    if (members > 0 || unseen_ < 0) return;
  }
  empty_ = true;
  siginfo_t info = {};
  waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG);
  pid_ = 0;
}

int Tree::SignalFirst(int signal) {
  if (pid_ == 0 || ended_) return -ESRCH;
  return kill(pid_, signal) < 0 ? -errno : 0;
}

int Tree::SignalAll(int signal) {
  if (pid_ <= 1) return -ESRCH;
  last_signal_ = signal;
  told_.clear();
  // The first process is the group's, alive or not reaped. (A process of another user in it, or on macOS a group of
  // zombies, is EPERM; those that may be signalled have been.)
  int error = kill(-pid_, signal) < 0 ? -errno : 0;
  kill(-pid_, SIGCONT);
  // It may have moved to a group of another job's.
  if (!ended_ && getpgid(pid_) != pid_) SignalOne(pid_);
  SignalArrivals();
  return error;
}

void Tree::SignalArrivals() {
  for (int32_t child : Adopted()) {
    if (IsIn(told_, child)) continue;
    SignalOne(child);
    told_.push_back(child);
  }
}

void Tree::SignalOne(pid_t pid) {
  kill(pid, last_signal_);
  kill(pid, SIGCONT);
}

// Our children, so that nobody else can have their numbers, outside of the group. Those that can be seen.
std::vector<int32_t> Tree::Adopted() const {
  std::vector<int32_t> adopted;
  ListChildren(&adopted);
  std::erase_if(adopted,
                [this](int32_t child) { return child == pid_ || getpgid(child) == pid_ || HasEnded(child); });
  return adopted;
}

bool Tree::HasEnded(pid_t child) const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

std::vector<int32_t> Tree::Survivors() const {
  if (pid_ == 0) return {};
  std::vector<int32_t> survivors;
  List([this](std::span<int32_t> out) { return GroupMembers(pid_, out); }, &survivors);
  for (int32_t child : Adopted()) survivors.push_back(child);
  if (!ended_ && !IsIn(survivors, pid_)) survivors.push_back(pid_);
  return survivors;
}

}  // namespace forkbeard::shim
