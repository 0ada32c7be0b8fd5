// A spawn as its caller wrote it down, turned into a SpawnPlan: strings in blocks in which each ends with a zero byte,
// numbers in tables whose layout lib/process/native-spawn.ts shares. The addon gets one from JavaScript (spawn.cc), the
// shim over its socket. Checks everything: what is wrong with a request is -EINVAL, never a crash.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fd.h"
#include "spawn/plan.h"

namespace forkbeard {

// The strings of a block, as the null-terminated row that exec wants.
class StringBlock {
 public:
  // False when something stands behind the last zero.
  bool Take(std::string block);
  size_t size() const { return row_.size() - 1; }
  char* operator[](size_t index) const { return row_[index]; }
  char* const* row() const { return row_.data(); }

 private:
  std::string block_;
  std::vector<char*> row_;
};

// What a descriptor of the child becomes: five numbers a row.
enum DescriptorKind : int32_t { kCopy, kOpenPath, kPipeToChild, kPipeFromChild, kSocketPair };
constexpr size_t kRow = 5;  // target, kind, source or index of the path, flags, mode

// Fixed places, then the groups, then the limits, three numbers each.
enum Setting : size_t {
  kGroup,
  kGroupToJoin,
  kUmask,  // NaN: not set. So with the others
  kNice,
  kUid,
  kGid,
  kGroups,  // how many
  kGroupsMayFail,
  kDeathSignal,
  kLimits,  // how many
  kFirstVariable,
};
constexpr size_t kLimitRow = 3;

// The pipes of a request. What the child gets is closed with this in any case; our ends are the caller's to keep.
struct SpawnPipes {
  std::vector<Fd> theirs;
  std::vector<Fd> ours;  // one for each descriptor
};

bool ReadSettings(std::span<double> settings, SpawnPlan* plan);

// All that can be said about the rows before anything is opened: a number that is not open now must not become one of
// the pipes that are made next. `bad` is the child's descriptor that is wrong.
int CheckRows(std::span<int32_t> rows, size_t paths, int* bad);

// Makes the pipes. 0 or a negative errno.
int ReadDescriptors(std::span<int32_t> rows, const StringBlock& paths, SpawnPlan* plan, SpawnPipes* pipes);

}  // namespace forkbeard
