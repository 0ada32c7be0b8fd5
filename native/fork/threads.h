// The threads of this process by number and name, for lib/process/fork-safety.ts, which asks before each fork.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace forkbeard {

struct Thread {
  int number;
  std::string name;
  bool operator==(const Thread&) const = default;
};

// Reading a name takes longer than anything else that is asked before a fork, so it is done twice for each set of
// threads, a second apart: then whoever names himself has done so.
class Threads {
 public:
  // Empty where the system does not tell.
  const std::vector<Thread>& List();

 private:
  std::vector<Thread> threads_;
  uint64_t read_ = 0;  // when these were first seen
  bool settled_ = false;
};

}  // namespace forkbeard
