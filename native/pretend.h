// For tests: FORKBEARD_PRETEND_MISSING is a comma list of system calls that this process shall take for missing, so
// that the fallbacks run on a kernel that has them all.
#pragma once

namespace forkbeard {

bool PretendMissing(const char* name);

}  // namespace forkbeard
