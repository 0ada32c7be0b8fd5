#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <span>

#include "fd.h"
#include "js.h"
#include "pretend.h"
#include "process_table.h"

#if defined(__linux__)
#include <sys/ioctl.h>
#include <sys/syscall.h>
#endif
#if defined(FORKBEARD_KQUEUE) || defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || \
    defined(__NetBSD__)
#define FORKBEARD_EVFILT_PROC
#include <sys/event.h>
#endif

namespace forkbeard {

namespace {

#if defined(__linux__)
// Called by number: a C library that knows the names would tie the binary to its version.
#if !defined(SYS_pidfd_open)
#define SYS_pidfd_open 434  // Linux 5.3
#endif
#if !defined(SYS_pidfd_send_signal)
#define SYS_pidfd_send_signal 424  // Linux 5.1
#endif
constexpr auto kPidfdIdtype = static_cast<idtype_t>(3);  // P_PIDFD, Linux 5.4
constexpr unsigned kSignalProcessGroup = 1u << 2;        // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
// Every child, whichever signal its end sends.
constexpr int kEveryChild = __WALL;

// PIDFD_GET_INFO (Linux 6.13; how a process ended since 6.15) in its first form.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup;
  uint32_t ids[11];
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64, "PIDFD_INFO_SIZE_VER0");
constexpr uint64_t kInfoExit = 1u << 3;
constexpr unsigned long kGetInfo = _IOWR(0xff, 11, PidfdInfo);
#else
constexpr int kEveryChild = 0;
#endif

// What waitpid(2) would have given: what the W… macros, and everybody's documentation, speak of.
int WaitStatus(const siginfo_t& info) {
  switch (info.si_code) {
    case CLD_EXITED:
      return (info.si_status & 0xff) << 8;
    case CLD_DUMPED:
      return info.si_status | 0x80;
    default:
      return info.si_status;
  }
}

// 1 and the status when the child has ended, 0 while it runs, or a negative errno: -ECHILD for what is no child of
// this process, or not any more. Never looks at any process but this one.
int Wait(pid_t pid, [[maybe_unused]] int pidfd, int options, int* status) {
  siginfo_t info = {};
  int result = -1;
  errno = EINVAL;
#if defined(__linux__)
  if (pidfd >= 0) result = waitid(kPidfdIdtype, pidfd, &info, WEXITED | WNOHANG | options);
#endif
  // EINVAL: a kernel without P_PIDFD. A child that nobody has reaped keeps its number.
  if (result < 0 && errno == EINVAL) result = waitid(P_PID, pid, &info, WEXITED | WNOHANG | options);
  if (result < 0) return -errno;
  if (info.si_pid == 0) return 0;
  *status = WaitStatus(info);
  return 1;
}

// For a process that we cannot wait for.
bool HasEnded(pid_t pid, int pidfd) {
  if (pidfd >= 0) {
    pollfd poll_for = {pidfd, POLLIN, 0};
    return poll(&poll_for, 1, 0) > 0 && (poll_for.revents & POLLIN);
  }
  if (kill(pid, 0) < 0 && errno == ESRCH) return true;
  ProcessRow row;
  return ReadProcess(pid, &row) && HasEnded(row);
}

// How a process ended that somebody else has reaped, where the kernel remembers it.
bool Remembered([[maybe_unused]] int pidfd, [[maybe_unused]] int* status) {
#if defined(__linux__)
  if (pidfd < 0 || PretendMissing("pidfd_info")) return false;
  PidfdInfo info = {};
  info.mask = kInfoExit;
  if (ioctl(pidfd, kGetInfo, &info) < 0 || !(info.mask & kInfoExit)) return false;
  *status = info.exit_code;
  return true;
#else
  return false;
#endif
}

// The pidfds of this process, of all its threads: a forked child closes them before their numbers can mean anything
// else. Guarded by a lock that the child makes anew, because a thread that is gone may have held it.
alignas(std::mutex) char lock_memory[sizeof(std::mutex)];
std::mutex* lock = new (lock_memory) std::mutex;
std::set<int> pidfds;

int Keep(int pidfd) {
  std::lock_guard<std::mutex> guard(*lock);
  pidfds.insert(pidfd);
  return pidfd;
}

// ------------------------------------------------------------------------------------ libuv's children

// libuv reaps whatever has ended whenever one of its children has, also what has not been announced to us yet. So that
// nobody has to be quicker than it, its callback goes by us: the status that it got is kept for who watches.
struct Attended {
  pid_t pid;        // 0: nobody wants to know any more
  uv_exit_cb told;  // child_process's
};
std::map<const uv_process_t*, Attended> attended;
std::map<pid_t, int> reaped_by_libuv;

void OnLibuvExit(uv_process_t* process, int64_t exit_status, int term_signal) {
  uv_exit_cb told = nullptr;
  {
    std::lock_guard<std::mutex> guard(*lock);
    auto found = attended.find(process);
    if (found != attended.end()) {
      told = found->second.told;
      if (found->second.pid != 0) reaped_by_libuv[found->second.pid] = process->status;
      attended.erase(found);
    }
  }
  process->exit_cb = told;
  if (told != nullptr) told(process, exit_status, term_signal);
}

// The handle by which child_process, or whoever uses libuv in this environment, waits for this child.
uv_process_t* LibuvHandle(napi_env env, pid_t pid) {
  struct Search {
    pid_t pid;
    uv_process_t* found;
  } search = {pid, nullptr};
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nullptr;
  uv_walk(
      loop,
      [](uv_handle_t* handle, void* argument) {
        auto* wanted = static_cast<Search*>(argument);
        if (handle->type != UV_PROCESS || uv_is_closing(handle)) return;
        auto* process = reinterpret_cast<uv_process_t*>(handle);
        if (process->pid == wanted->pid) wanted->found = process;
      },
      &search);
  return search.found;
}

bool AttendLibuvs(napi_env env, pid_t pid) {
  uv_process_t* process = LibuvHandle(env, pid);
  if (process == nullptr) return false;
  std::lock_guard<std::mutex> guard(*lock);
  if (process->exit_cb == OnLibuvExit) {
    attended[process].pid = pid;
  } else {
    attended[process] = {pid, process->exit_cb};
    process->exit_cb = OnLibuvExit;
  }
  reaped_by_libuv.erase(pid);
  return true;
}

bool RecallLibuvs(pid_t pid, int* status) {
  std::lock_guard<std::mutex> guard(*lock);
  auto found = reaped_by_libuv.find(pid);
  if (found == reaped_by_libuv.end()) return false;
  *status = found->second;
  return true;
}

// ------------------------------------------------------------------------------------ what JavaScript sees

bool Statuses(napi_env env, napi_value value, std::span<int32_t>* out) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || length == 0) {
    return false;
  }
  *out = {static_cast<int32_t*>(data), length};
  return true;
}

// open(pid): a pidfd, close-on-exec, or a negative errno.
napi_value Open(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pid;
  if (!call.Int(0, &pid) || pid <= 0) return js::Int(env, -EINVAL);
#if defined(__linux__)
  if (PretendMissing("pidfd_open")) return js::Int(env, -ENOSYS);
  auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  return js::Int(env, pidfd < 0 ? -errno : Keep(pidfd));
#else
  return js::Int(env, -ENOSYS);
#endif
}

// keep(pidfd): as if open had made it.
napi_value KeepPidfd(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pidfd;
  if (!call.Int(0, &pidfd) || pidfd < 0) return js::Int(env, -EINVAL);
  return js::Int(env, Keep(pidfd));
}

// close(pidfd): one that open or keep gave; anything else is left alone.
napi_value Close(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pidfd;
  if (!call.Int(0, &pidfd)) return js::Int(env, -EINVAL);
  std::lock_guard<std::mutex> guard(*lock);
  if (pidfds.erase(pidfd) == 0) return js::Int(env, -EBADF);
  close(pidfd);
  return js::Int(env, 0);
}

// kinship(pid, pidfd): who reaps it. See Kinship in lib/process/native.ts. Of libuv's children the status is kept from
// then on, until disregard.
napi_value Kinship(napi_env env, napi_callback_info info) {
  enum : int32_t { kStranger, kAnotherThreads, kLibuvs, kOurs };
  js::Call<2> call(env, info);
  int32_t pid, pidfd;
  if (!call.Int(0, &pid) || !call.Int(1, &pidfd) || pid <= 0) return js::Int(env, -EINVAL);
  int status;
  int waited = Wait(pid, pidfd, WNOWAIT | kEveryChild, &status);
  if (waited < 0) return js::Int(env, waited == -ECHILD ? kStranger : waited);
  if (AttendLibuvs(env, pid)) return js::Int(env, kLibuvs);
#if defined(__linux__)
  // Another thread's child_process may wait for what that thread has forked.
  if (Wait(pid, pidfd, WNOWAIT | kEveryChild | __WNOTHREAD, &status) == -ECHILD) {
    return js::Int(env, kAnotherThreads);
  }
#endif
  return js::Int(env, kOurs);
}

// observe(pid, pidfd, out): 0 while it runs; 1 when it has ended, with its wait status in out[0]; 2 when it has ended
// and is not ours to wait for, or not any more: then out[1] tells whether out[0] holds the status all the same.
napi_value Observe(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t pid, pidfd;
  std::span<int32_t> out;
  if (!call.Int(0, &pid) || !call.Int(1, &pidfd) || pid <= 0 || !Statuses(env, call[2], &out) ||
      out.size() < 2) {
    return js::Int(env, -EINVAL);
  }
  // First, because the number may be another child's by now.
  out[1] = RecallLibuvs(pid, &out[0]) ? 1 : 0;
  if (out[1] == 1) return js::Int(env, 2);
  int waited = Wait(pid, pidfd, WNOWAIT | kEveryChild, &out[0]);
  if (waited != -ECHILD) return js::Int(env, waited);
  if (!HasEnded(pid, pidfd)) return js::Int(env, 0);
  out[1] = Remembered(pidfd, &out[0]) ? 1 : 0;
  return js::Int(env, 2);
}

// disregard(pid): nobody here wants to know any more how libuv's child has ended.
napi_value Disregard(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pid;
  if (!call.Int(0, &pid)) return js::Int(env, -EINVAL);
  std::lock_guard<std::mutex> guard(*lock);
  reaped_by_libuv.erase(pid);
  for (auto& [process, one] : attended) {
    if (one.pid == pid) one.pid = 0;
  }
  return js::Int(env, 0);
}

// reap(pid, pidfd, out): 1 when it was there to be reaped, its status in out[0]; 0 while it runs; or a negative errno.
napi_value Reap(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t pid, pidfd;
  std::span<int32_t> out;
  if (!call.Int(0, &pid) || !call.Int(1, &pidfd) || pid <= 0 || !Statuses(env, call[2], &out)) {
    return js::Int(env, -EINVAL);
  }
  return js::Int(env, Wait(pid, pidfd, kEveryChild, &out[0]));
}

// signal(pid, pidfd, number): 0 or a negative errno. Without a pidfd only to a child that nobody has reaped: a
// stranger's number may be another's by now (-ENOSYS). Whether there is such a process (number 0) is answered anyway.
napi_value Signal(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t pid, pidfd, number;
  if (!call.Int(0, &pid) || !call.Int(1, &pidfd) || !call.Int(2, &number) || pid <= 0) {
    return js::Int(env, -EINVAL);
  }
#if defined(__linux__)
  if (pidfd >= 0) {
    if (syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0) == 0) return js::Int(env, 0);
    // Sandboxes know pidfd_open and not always its sister.
    if (errno != ENOSYS) return js::Int(env, -errno);
  }
#endif
  int status;
  if (number != 0 && Wait(pid, -1, WNOWAIT | kEveryChild, &status) == -ECHILD) {
    return js::Int(env, kill(pid, 0) < 0 ? -errno : -ENOSYS);
  }
  return js::Int(env, kill(pid, number) < 0 ? -errno : 0);
}

// signalGroup(group, pidfd, number): to the process group that the pidfd's process leads or, being gone, has led.
// -EINVAL where the kernel cannot address it so. With a pidfd of -1 by number: only while the leader is not reaped.
napi_value SignalGroup(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t group, pidfd, number;
  if (!call.Int(0, &group) || !call.Int(1, &pidfd) || !call.Int(2, &number)) return js::Int(env, -EINVAL);
  // Group 1 is init's, and -1 and 0 are everybody's and our own.
  if (group <= 1 || group == getpgrp()) return js::Int(env, -EPERM);
  if (pidfd < 0) return js::Int(env, kill(-group, number) < 0 ? -errno : 0);
#if defined(__linux__)
  if (PretendMissing("pidfd_group")) return js::Int(env, -EINVAL);
  long result = syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, kSignalProcessGroup);
  return js::Int(env, result < 0 ? -errno : 0);
#else
  return js::Int(env, -EINVAL);
#endif
}

// groupMembers(group, out): how many of its processes have not ended (out holds the first of them), or a negative
// errno. Zombies do not count: their number waits for their parent, they do nothing any more.
napi_value CountMembers(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t group;
  std::span<int32_t> out;
  if (!call.Int(0, &group) || group <= 0 || !Statuses(env, call[1], &out)) return js::Int(env, -EINVAL);
  return js::Int(env, GroupMembers(group, out));
}

// groupOf(pid): the process group that it is in now, or a negative errno.
napi_value GroupOf(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pid;
  if (!call.Int(0, &pid) || pid <= 0) return js::Int(env, -EINVAL);
  pid_t group = getpgid(pid);
  return js::Int(env, group < 0 ? -errno : group);
}

// birth(pid): a number that another process with the same pid would not have; negative when there is no such process
// or this system does not tell.
napi_value Birth(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pid;
  if (!call.Int(0, &pid) || pid <= 0) return js::Int(env, -EINVAL);
  ProcessRow row;
  if (ReadProcess(pid, &row)) return js::Number(env, static_cast<double>(row.birth));
  return js::Int(env, -ESRCH);
}

// ------------------------------------------------------------------------------------ EVFILT_PROC

// openQueue(): a kqueue that becomes readable when a process that was added to it ends. -ENOSYS where there is none.
napi_value OpenQueue(napi_env env, napi_callback_info) {
#if defined(FORKBEARD_EVFILT_PROC)
  if (PretendMissing("kqueue")) return js::Int(env, -ENOSYS);
  int queue = kqueue();
  if (queue < 0) return js::Int(env, -errno);
  fcntl(queue, F_SETFD, FD_CLOEXEC);
  return js::Int(env, queue);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// addToQueue(queue, pid): 0, -ESRCH when the process has ended already (it may be there to be waited for), or another
// negative errno.
napi_value AddToQueue(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t queue, pid;
  if (!call.Int(0, &queue) || !call.Int(1, &pid) || pid <= 0) return js::Int(env, -EINVAL);
#if defined(FORKBEARD_EVFILT_PROC)
  struct kevent change;
  EV_SET(&change, static_cast<uintptr_t>(pid), EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT, 0, nullptr);
  return js::Int(env, kevent(queue, &change, 1, nullptr, 0, nullptr) < 0 ? -errno : 0);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// removeFromQueue(queue, pid)
napi_value RemoveFromQueue(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t queue, pid;
  if (!call.Int(0, &queue) || !call.Int(1, &pid) || pid <= 0) return js::Int(env, -EINVAL);
#if defined(FORKBEARD_EVFILT_PROC)
  struct kevent change;
  EV_SET(&change, static_cast<uintptr_t>(pid), EVFILT_PROC, EV_DELETE, 0, 0, nullptr);
  return js::Int(env, kevent(queue, &change, 1, nullptr, 0, nullptr) < 0 ? -errno : 0);
#else
  return js::Int(env, -ENOSYS);
#endif
}

// takeFromQueue(queue, out): the pids of those that have ended are in out; how many, or a negative errno.
napi_value TakeFromQueue(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t queue;
  std::span<int32_t> out;
  if (!call.Int(0, &queue) || !Statuses(env, call[1], &out)) return js::Int(env, -EINVAL);
#if defined(FORKBEARD_EVFILT_PROC)
  struct kevent events[64];
  timespec at_once = {};
  int room = static_cast<int>(out.size() < 64 ? out.size() : 64);
  int count = kevent(queue, nullptr, 0, events, room, &at_once);
  for (int i = 0; i < count; i++) out[i] = static_cast<int32_t>(events[i].ident);
  return js::Int(env, count < 0 ? -errno : count);
#else
  return js::Int(env, -ENOSYS);
#endif
}

}  // namespace

void ChildrenForked() {
  lock = new (lock_memory) std::mutex;
  reaped_by_libuv.clear();
  for (int pidfd : pidfds) close(pidfd);
  pidfds.clear();
}

napi_value MakeChildExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "open", Open);
  js::SetFunction(env, exports, "keep", KeepPidfd);
  js::SetFunction(env, exports, "close", Close);
  js::SetFunction(env, exports, "kinship", Kinship);
  js::SetFunction(env, exports, "observe", Observe);
  js::SetFunction(env, exports, "disregard", Disregard);
  js::SetFunction(env, exports, "reap", Reap);
  js::SetFunction(env, exports, "signal", Signal);
  js::SetFunction(env, exports, "signalGroup", SignalGroup);
  js::SetFunction(env, exports, "groupMembers", CountMembers);
  js::SetFunction(env, exports, "groupOf", GroupOf);
  js::SetFunction(env, exports, "birth", Birth);
  js::SetFunction(env, exports, "openQueue", OpenQueue);
  js::SetFunction(env, exports, "addToQueue", AddToQueue);
  js::SetFunction(env, exports, "removeFromQueue", RemoveFromQueue);
  js::SetFunction(env, exports, "takeFromQueue", TakeFromQueue);
  return exports;
}

}  // namespace forkbeard
