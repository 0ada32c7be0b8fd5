// What the kernel's process table says about processes, which may be anybody's: their state, parent, group and birth.
// Read by the addon (child.cc) and by the shim. It changes nothing, and what it says may be over when it is read: who
// sends a signal on the strength of it has pinned the process first.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>

namespace forkbeard {

struct ProcessRow {
  char state;  // as in ps: R, S, D, T, t, Z, X
  pid_t parent;
  pid_t group;
  int threads;
  int64_t birth;  // clock ticks from the machine's start: field 22 of /proc/<pid>/stat
};

// False when there is no such process, or this system does not tell; or, with `errno` as `IsShortage` wants it, not now.
bool ReadProcess(pid_t pid, ProcessRow* row);

// We or the machine have too few descriptors, or too little memory: what was asked may be there all the same.
bool IsShortage(int error);

// A zombie's number waits for its parent; it does nothing any more. A process whose first thread alone has ended looks
// like one, and is none.
bool HasEnded(const ProcessRow& row);

// How many processes of the group have not ended, the first of them in `out`; or a negative errno: then nobody knows, and
// it may be any number. One that is there and cannot be looked at more closely has not ended.
int GroupMembers(pid_t group, std::span<int32_t> out);

// The children of this process, zombies included, likewise. -ENOSYS where there is no such list.
int OwnChildren(std::span<int32_t> out);

}  // namespace forkbeard
