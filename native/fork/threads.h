// The threads of this process by number and name, for lib/process/fork-safety.ts, which asks before each fork.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace forkbeard {

// Empty where the system does not tell.
std::vector<std::pair<int, std::string>> ThreadNames();

}  // namespace forkbeard
