#include "spawn/request.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "descriptors.h"

namespace forkbeard {
namespace {

template <typename Integer>
bool Whole(double value, double least, double most, Integer* out) {
  if (!(value >= least && value <= most) || value != std::floor(value)) return false;
  *out = static_cast<Integer>(value);
  return true;
}

uint64_t LimitValue(double value) {
  constexpr double kBeyond = 18446744073709551616.0;  // 2^64
  return value >= kBeyond ? UINT64_MAX : static_cast<uint64_t>(value);
}

bool ReadLimits(std::span<double> rows, SpawnPlan* plan) {
  for (; !rows.empty(); rows = rows.subspan(kLimitRow)) {
    SpawnLimit limit = {};
    if (!Whole(rows[0], 0, 1024, &limit.resource) || !(rows[1] >= 0) || rows[2] < 0) return false;
    limit.keep_hard = std::isnan(rows[2]);
    limit.value.soft = LimitValue(rows[1]);
    limit.value.hard = limit.keep_hard ? 0 : LimitValue(rows[2]);
    plan->limits.push_back(limit);
  }
  return true;
}

bool ReadGroup(std::span<double> settings, SpawnPlan* plan) {
  int32_t group;
  if (!Whole(settings[kGroup], 0, static_cast<int>(SpawnGroup::kJoin), &group)) return false;
  plan->group = static_cast<SpawnGroup>(group);
  return plan->group != SpawnGroup::kJoin ||
         Whole(settings[kGroupToJoin], 1, INT32_MAX, &plan->group_to_join);
}

bool ReadUser(std::span<double> settings, SpawnPlan* plan) {
  plan->set_uid = !std::isnan(settings[kUid]);
  plan->set_gid = !std::isnan(settings[kGid]);
  // The last number means "leave it" to the kernel.
  return (!plan->set_uid || Whole(settings[kUid], 0, UINT32_MAX - 1, &plan->uid)) &&
         (!plan->set_gid || Whole(settings[kGid], 0, UINT32_MAX - 1, &plan->gid));
}

int MakeEnds(int32_t kind, Fd* theirs, Fd* ours) {
  int ends[2];
  int error = kind == kSocketPair ? MakeSocketPair(SOCK_STREAM, ends) : MakePipe(ends);
  if (error < 0) return error;
  *theirs = Fd(ends[kind == kPipeFromChild ? 1 : 0]);
  *ours = Fd(ends[kind == kPipeFromChild ? 0 : 1]);
  return SetNonBlocking(theirs->get(), false);
}

}  // namespace

bool StringBlock::Take(std::string block) {
  block_ = std::move(block);
  row_.clear();
  if (!block_.empty() && block_.back() != '\0') return false;
  for (size_t at = 0; at < block_.size(); at = block_.find('\0', at) + 1) row_.push_back(&block_[at]);
  row_.push_back(nullptr);
  return true;
}

bool ReadSettings(std::span<double> settings, SpawnPlan* plan) {
  if (!ReadGroup(settings, plan) || !ReadUser(settings, plan)) return false;
  if (!std::isnan(settings[kUmask]) && !Whole(settings[kUmask], 0, 07777, &plan->umask)) return false;
  if (!std::isnan(settings[kDeathSignal]) && !Whole(settings[kDeathSignal], 0, 64, &plan->death_signal))
    return false;
  int difference = 0;
  plan->set_nice = !std::isnan(settings[kNice]);
  if (plan->set_nice) {
    if (!Whole(settings[kNice], -40, 40, &difference)) return false;
    plan->nice = std::clamp(getpriority(PRIO_PROCESS, 0) + difference, -20, 19);
  }
  size_t groups = 0;
  size_t limits = 0;
  plan->set_groups = !std::isnan(settings[kGroups]);
  plan->groups_may_fail = settings[kGroupsMayFail] == 1;
  if (plan->set_groups && !Whole(settings[kGroups], 0, 1 << 16, &groups)) return false;
  if (!Whole(settings[kLimits], 0, 64, &limits)) return false;
  std::span<double> rest = settings.subspan(kFirstVariable);
  if (rest.size() < groups + limits * kLimitRow) return false;
  for (size_t i = 0; i < groups; ++i) {
    gid_t group;
    if (!Whole(rest[i], 0, UINT32_MAX - 1, &group)) return false;
    plan->groups.push_back(group);
  }
  return ReadLimits(rest.subspan(groups, limits * kLimitRow), plan);
}

int CheckRows(std::span<int32_t> rows, size_t paths, int* bad) {
  int last = -1;
  for (; !rows.empty(); rows = rows.subspan(kRow)) {
    int target = rows[0];
    int32_t kind = rows[1];
    int source = rows[2];
    if (target <= last || kind < kCopy || kind > kSocketPair) return -EINVAL;
    if (kind == kOpenPath && (source < 0 || static_cast<size_t>(source) >= paths)) return -EINVAL;
    if (kind == kCopy && fcntl(source, F_GETFD) < 0) {
      *bad = target;
      return -EBADF;
    }
    last = target;
  }
  return 0;
}

int ReadDescriptors(std::span<int32_t> rows, const StringBlock& paths, SpawnPlan* plan, SpawnPipes* pipes) {
  for (; !rows.empty(); rows = rows.subspan(kRow)) {
    SpawnDescriptor descriptor = {rows[0], rows[2], nullptr, rows[3], static_cast<mode_t>(rows[4]), false};
    Fd ours;
    if (rows[1] == kOpenPath) {
      descriptor.path = paths[static_cast<size_t>(rows[2])];
    } else if (rows[1] != kCopy) {
      Fd theirs;
      if (int error = MakeEnds(rows[1], &theirs, &ours); error < 0) return error;
      descriptor.source = theirs.get();
      pipes->theirs.push_back(std::move(theirs));
    }
    if (descriptor.path == nullptr) plan->sources.push_back(descriptor.source);
    pipes->ours.push_back(std::move(ours));
    plan->descriptors.push_back(descriptor);
  }
  auto by_target = [](const SpawnDescriptor& descriptor, int target) { return descriptor.target < target; };
  for (SpawnDescriptor& descriptor : plan->descriptors) {
    if (descriptor.path != nullptr || descriptor.source >= descriptor.target) continue;
    auto first = plan->descriptors.begin();
    auto found = std::lower_bound(first, plan->descriptors.end(), descriptor.source, by_target);
    descriptor.clobbered = found->target == descriptor.source;
  }
  std::sort(plan->sources.begin(), plan->sources.end());
  auto end = std::unique(plan->sources.begin(), plan->sources.end());
  plan->sources.erase(end, plan->sources.end());
  return 0;
}

}  // namespace forkbeard
