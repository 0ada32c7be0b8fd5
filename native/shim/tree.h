// The service's processes: the first one, its group, and what left the group, which as orphans come to the shim (a
// subreaper, where there is such a thing). The first one is not reaped while anything else is left, so that its number,
// which is the group's, cannot become a stranger's; nothing here is ever sent to a number that is not held like that.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "shim/plan.h"

namespace forkbeard::shim {

// Why a service did not start. `step` is a SpawnStep; 0 and a word where it failed before.
struct Refusal {
  int error = 0;
  int step = 0;
  int fd = -1;
  const char* where = "";
};

class Tree {
 public:
  // Makes the process, which waits, so that it can be written down before it does anything. 0 or a negative errno.
  int Prepare(Plan* plan);
  // Lets it run its program. 0, or a negative errno and why: then there is no process left.
  int Release(Refusal* refusal);
  // Ends it instead.
  void Abandon();

  // Orphans of the service come to us, and with them the news of their end. Otherwise both have to be asked for.
  bool adopts() const { return adopts_; }
  // 0 when there is none, or nothing is left of it.
  pid_t pid() const { return pid_; }

  // Looks at what has ended. True when the service's first process has, and this is the first time that it is seen.
  bool Reap();
  bool ended() const { return ended_; }
  int status() const { return status_; }
  // The first process is there, and a signal keeps it from running; as far as `Reap` has seen. A tracer that holds it
  // does not count.
  bool stopped() const { return stopped_ && !ended_; }
  // Nothing of it is left, and that was seen.
  bool empty() const { return empty_; }
  // Its first process has ended, and whether anything is left could not be seen: a negative errno. To be asked again.
  int unseen() const { return unseen_; }

  // 0 or a negative errno: to the first process alone, or to all. A process that has been stopped hears it only when it
  // goes on, so that everything that is to end it is followed by SIGCONT.
  int SignalFirst(int signal);
  int SignalAll(int signal);
  // Sends `signal` to those that have come to the shim since the last signal to all: their parent ended of it.
  void SignalArrivals();

  // What is left, the first process included.
  std::vector<int32_t> Survivors() const;

 private:
  void Settle();
  bool HasBecome(int what) const;
  bool HasEnded(pid_t child) const;
  std::vector<int32_t> Adopted() const;
  void SignalOne(pid_t pid);

  pid_t pid_ = 0;
  Fd hold_;
  Fd report_;
  bool adopts_ = false;
  bool ended_ = false;
  bool stopped_ = false;
  bool empty_ = false;
  int status_ = 0;
  int unseen_ = 0;
  int last_signal_ = 0;
  std::vector<int32_t> told_;
};

}  // namespace forkbeard::shim
