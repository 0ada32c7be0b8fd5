// See child.h: what JavaScript sees of it. child/ending.h: how a process ended; child/libuv.h: the children of libuv;
// child/queue.h: a kqueue for their ends.
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <mutex>
#include <new>
#include <set>
#include <span>

#include "child/ending.h"
#include "child/libuv.h"
#include "child/queue.h"
#include "js.h"
#include "pretend.h"
#include "process_table.h"

#if defined(__linux__)
#include <sys/syscall.h>
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
constexpr unsigned kSignalProcessGroup = 1u << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
#endif

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
  int waited = WaitForChild(pid, pidfd, WNOWAIT | kEveryChild, &status);
  if (waited < 0) return js::Int(env, waited == -ECHILD ? kStranger : waited);
  if (AttendLibuvs(env, pid)) return js::Int(env, kLibuvs);
#if defined(__linux__)
  // Another thread's child_process may wait for what that thread has forked.
  if (WaitForChild(pid, pidfd, WNOWAIT | kEveryChild | __WNOTHREAD, &status) == -ECHILD) {
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
  if (!call.Int(0, &pid) || !call.Int(1, &pidfd) || pid <= 0 || !call.Ints(2, 2, &out)) {
    return js::Int(env, -EINVAL);
  }
  // First, because the number may be another child's by now.
  out[1] = RecallLibuvs(pid, &out[0]) ? 1 : 0;
  if (out[1] == 1) return js::Int(env, 2);
  int waited = WaitForChild(pid, pidfd, WNOWAIT | kEveryChild, &out[0]);
  if (waited != -ECHILD) return js::Int(env, waited);
  if (!HasEnded(pid, pidfd)) return js::Int(env, 0);
  out[1] = IsRemembered(pidfd, &out[0]) ? 1 : 0;
  return js::Int(env, 2);
}

// disregard(pid): nobody here wants to know any more how libuv's child has ended.
napi_value Disregard(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t pid;
  if (!call.Int(0, &pid)) return js::Int(env, -EINVAL);
  DisregardLibuvs(pid);
  return js::Int(env, 0);
}

// reap(pid, pidfd, out): 1 when it was there to be reaped, its status in out[0]; 0 while it runs; or a negative errno.
napi_value Reap(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t pid, pidfd;
  std::span<int32_t> out;
  if (!call.Int(0, &pid) || !call.Int(1, &pidfd) || pid <= 0 || !call.Ints(2, 1, &out)) {
    return js::Int(env, -EINVAL);
  }
  return js::Int(env, WaitForChild(pid, pidfd, kEveryChild, &out[0]));
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
  if (number != 0 && WaitForChild(pid, -1, WNOWAIT | kEveryChild, &status) == -ECHILD) {
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
  if (!call.Int(0, &group) || group <= 0 || !call.Ints(1, 1, &out)) return js::Int(env, -EINVAL);
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

}  // namespace

void ChildrenForked() {
  LibuvsForked();
  lock = new (lock_memory) std::mutex;
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
  SetQueueExports(env, exports);
  return exports;
}

}  // namespace forkbeard
