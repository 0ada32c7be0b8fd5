// See ending.h.
#include "child/ending.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>

#include "pretend.h"
#include "process_table.h"

#if defined(__linux__)
#include <sys/ioctl.h>
#endif

namespace forkbeard {

namespace {

#if defined(__linux__)
constexpr auto kPidfdIdtype = static_cast<idtype_t>(3);  // P_PIDFD, Linux 5.4

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

}  // namespace

int WaitForChild(pid_t pid, [[maybe_unused]] int pidfd, int options, int* status) {
  siginfo_t info = {};
  int result = -1;
  errno = EINVAL;
#if defined(__linux__)
  if (pidfd >= 0 && !PretendMissing("p_pidfd"))
    result = waitid(kPidfdIdtype, pidfd, &info, WEXITED | WNOHANG | options);
#endif
  // EINVAL: a kernel without P_PIDFD. A child that nobody has reaped keeps its number.
  if (result < 0 && errno == EINVAL) result = waitid(P_PID, pid, &info, WEXITED | WNOHANG | options);
  if (result < 0) return -errno;
  if (info.si_pid == 0) return 0;
  *status = WaitStatus(info);
  return 1;
}

bool HasEnded(pid_t pid, int pidfd) {
  if (pidfd >= 0) {
    pollfd poll_for = {pidfd, POLLIN, 0};
    return poll(&poll_for, 1, 0) > 0 && (poll_for.revents & POLLIN);
  }
  if (kill(pid, 0) < 0 && errno == ESRCH) return true;
  ProcessRow row;
  return ReadProcess(pid, &row) && HasEnded(row);
}

bool IsRemembered([[maybe_unused]] int pidfd, [[maybe_unused]] int* status) {
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

}  // namespace forkbeard
