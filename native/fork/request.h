// What a fork is asked for, as it is handed from JavaScript to those who carry it out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace forkbeard {

// The same numbers in lib/process/native-fork.ts.
enum ForkFlags : uint32_t {
  kKeepSignals = 1,
  // The parent's connections see their end in the child, instead of nothing at all.
  kCloseHandles = 2,
  // Descriptors that are not named are closed.
  kListed = 4,
  // The child is the nearest subreaper's, not ours.
  kDetached = 8,
};

struct ForkRequest {
  uint32_t flags = 0;
  std::vector<int> named;  // descriptors that stay as they are

  bool Has(ForkFlags flag) const { return (flags & flag) != 0; }
  bool Names(int fd) const { return std::ranges::find(named, fd) != named.end(); }
};

}  // namespace forkbeard
