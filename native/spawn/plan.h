// Starting programs. A SpawnPlan says everything about the new process; StartProgram carries it out without cost for
// the size of this one. Whatever fails, up to and including exec, comes back as an errno and the step that it
// happened in, and then there is no process, no zombie and no descriptor left.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace forkbeard {

// What failed. The same numbers in lib/process/native-spawn.ts, which knows their names.
enum class SpawnStep : int32_t {
  kNone,
  kPipe,
  kFork,
  kSession,
  kGroup,
  kDescriptor,
  kOpen,
  kClose,
  kNice,
  kLimit,
  kDirectory,
  kGroups,
  kGid,
  kUid,
  kDeathSignal,
  kExec,
};

// One descriptor of the child: a copy of `source`, or, where `path` is set, a file that the child opens.
struct SpawnDescriptor {
  int target;
  int source;
  const char* path;
  int flags;
  mode_t mode;
  // The number of `source` is another descriptor's target: it has to be saved before that is made.
  bool clobbered;
};

struct SpawnLimit {
  struct Pair {  // as Linux has it, on every machine (prlimit(2))
    uint64_t soft;
    uint64_t hard;
  };
  int resource;
  Pair value;
  bool keep_hard;
};

enum class SpawnGroup : int32_t { kInherit, kNew, kSession, kJoin };

// Nothing in it is allocated, resolved or sorted any more once the child runs.
struct SpawnPlan {
  static constexpr int kUnset = -1;

  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  // Paths to try, null at the end.
  const char* const* candidates = nullptr;
  const char* directory = nullptr;

  std::vector<SpawnDescriptor> descriptors;  // by target, ascending
  std::vector<int> sources;                  // the numbers they are copied from: ascending, each once

  SpawnGroup group = SpawnGroup::kInherit;
  pid_t group_to_join = 0;
  int umask = kUnset;
  bool set_nice = false;
  int nice = 0;  // the value, not the difference
  std::vector<SpawnLimit> limits;
  bool set_groups = false;
  bool groups_may_fail = false;
  std::vector<gid_t> groups;
  bool set_gid = false;
  gid_t gid = 0;
  bool set_uid = false;
  uid_t uid = 0;
  int death_signal = 0;
};

struct SpawnOutcome {
  pid_t pid = -1;
  int pidfd = -1;  // the caller's, -1 where there are none
  SpawnStep step = SpawnStep::kNone;
  int fd = -1;  // the child's descriptor that the step was about
};

// 0 once the program runs, or a negative errno and `step`. Blocks until then. Any thread may call it.
int StartProgram(SpawnPlan* plan, SpawnOutcome* outcome);

}  // namespace forkbeard
