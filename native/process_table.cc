#include "process_table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#if defined(__APPLE__) || defined(__FreeBSD__)
#include <sys/sysctl.h>
#endif
#if defined(__FreeBSD__)
#include <sys/user.h>
#endif

#include "fd.h"

namespace forkbeard {
namespace {

[[maybe_unused]] void Add(std::span<int32_t> out, size_t* count, int32_t pid) {
  if (*count < out.size()) out[*count] = pid;
  ++*count;
}

#if defined(__linux__)

// The processes that `wanted` says yes to. Asks the kernel about each by its number and opens nothing but the list, so
// that it either fails as a whole or is complete.
template <typename Wanted>
int Count(std::span<int32_t> out, Wanted wanted) {
  DIR* directory = opendir("/proc");
  if (directory == nullptr) return errno == ENOENT ? -ENOSYS : -errno;
  const pid_t self = getpid();
  bool is_ours = false;
  size_t count = 0;
  for (;;) {
    errno = 0;
    dirent* entry = readdir(directory);
    if (entry == nullptr) break;
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    pid_t pid = atoi(entry->d_name);
    is_ours = is_ours || pid == self;
    if (wanted(pid)) Add(out, &count, pid);
  }
  const int error = errno;
  closedir(directory);
  if (error != 0) return -error;
  // An empty folder, or another namespace's: it says nothing of us.
  return is_ours ? static_cast<int>(count) : -ENOSYS;
}

bool IsChild(pid_t pid) {
  siginfo_t info;
  return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

#endif

}  // namespace

bool IsShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

bool HasEnded(const ProcessRow& row) {
  return (row.state == 'Z' && row.threads <= 1) || row.state == 'X' || row.state == 'x';
}

#if defined(__linux__)

bool ReadProcess(pid_t pid, ProcessRow* row) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  Fd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  char text[1024];
  ssize_t length = read(file.get(), text, sizeof text - 1);
  if (length < 0) return false;
  text[length] = '\0';
  // The command's name may hold anything, parentheses included.
  char* after = strrchr(text, ')');
  errno = ESRCH;
  if (after == nullptr || after[1] == '\0') return false;
  row->state = after[2];
  char* at = after + 3;
  long long numbers[19];  // from the parent, the 4th field, to the start time, the 22nd
  for (long long& number : numbers) number = strtoll(at, &at, 10);
  row->parent = static_cast<pid_t>(numbers[0]);
  row->group = static_cast<pid_t>(numbers[1]);
  row->threads = static_cast<int>(numbers[16]);
  row->birth = numbers[18];
  return true;
}

int GroupMembers(pid_t group, std::span<int32_t> out) {
  return Count(out, [group](pid_t pid) {
    ProcessRow row;
    return getpgid(pid) == group && !(ReadProcess(pid, &row) && HasEnded(row)) && getpgid(pid) == group;
  });
}

int OwnChildren(std::span<int32_t> out) { return Count(out, IsChild); }

#else

bool ReadProcess(pid_t, ProcessRow*) {
  errno = ENOSYS;
  return false;
}

int OwnChildren(std::span<int32_t>) { return -ENOSYS; }

#if defined(__APPLE__) || defined(__FreeBSD__)

int GroupMembers(pid_t group, std::span<int32_t> out) {
  int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PGRP, group};
  kinfo_proc processes[256];
  size_t length = sizeof processes;
  // ENOMEM: there are more, and what fits was written.
  if (sysctl(name, 4, processes, &length, nullptr, 0) < 0 && errno != ENOMEM) return -errno;
  size_t count = 0;
  for (size_t i = 0; i < length / sizeof processes[0]; i++) {
#if defined(__APPLE__)
    if (processes[i].kp_proc.p_stat != SZOMB) Add(out, &count, processes[i].kp_proc.p_pid);
#else
    if (processes[i].ki_stat != SZOMB) Add(out, &count, processes[i].ki_pid);
#endif
  }
  return static_cast<int>(count);
}

#else

int GroupMembers(pid_t, std::span<int32_t>) { return -ENOSYS; }

#endif
#endif

}  // namespace forkbeard
