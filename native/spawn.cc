// Reads a spawn request from JavaScript. Strings come as blocks in which each ends with a zero byte, so that a
// whole environment is one crossing; numbers come in typed arrays whose layout lib/process/native-spawn.ts shares.
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <crt_externs.h>
#endif

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "descriptors.h"
#include "fd.h"
#include "js.h"
#include "spawn/plan.h"

namespace forkbeard {
namespace {

char** Environment() {
#if defined(__APPLE__)
  return *_NSGetEnviron();
#else
  return environ;
#endif
}

// The strings of a block, as the null-terminated row that exec wants.
class Strings {
 public:
  bool Read(napi_env env, napi_value value) {
    size_t length;
    if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
    block_.resize(length);
    // Writes the zero that std::string keeps behind its end.
    napi_get_value_string_utf8(env, value, block_.data(), length + 1, &length);
    if (!block_.empty() && block_.back() != '\0') return false;
    for (size_t at = 0; at < block_.size(); at = block_.find('\0', at) + 1) row_.push_back(&block_[at]);
    row_.push_back(nullptr);
    return true;
  }
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

// Where results are written: four fixed places, then our end of each descriptor that is a pipe, -1 for others.
enum Result : size_t { kPid, kPidfd, kStep, kFd, kFirstEnd };

bool Doubles(napi_env env, napi_value value, size_t count, std::span<double>* out) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length < count) {
    return false;
  }
  *out = {static_cast<double*>(data), length};
  return true;
}

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

// The pipes of a request. What the child gets is closed here in any case; our ends only when it fails.
struct Pipes {
  std::vector<Fd> theirs;
  std::vector<Fd> ours;  // one for each descriptor
};

int MakeEnds(int32_t kind, Fd* theirs, Fd* ours) {
  int ends[2];
  int error = kind == kSocketPair ? MakeSocketPair(SOCK_STREAM, ends) : MakePipe(ends);
  if (error < 0) return error;
  *theirs = Fd(ends[kind == kPipeFromChild ? 1 : 0]);
  *ours = Fd(ends[kind == kPipeFromChild ? 0 : 1]);
  return SetNonBlocking(theirs->get(), false);
}

// All that can be said about the rows before anything is opened: a number that is not open now must not become one of
// the pipes that are made next.
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

int ReadDescriptors(std::span<int32_t> rows, const Strings& paths, SpawnPlan* plan, Pipes* pipes) {
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

// (arguments, environment or null for ours, candidates, directory (none or one), paths, rows, settings, results)
napi_value Start(napi_env env, napi_callback_info info) {
  js::Call<8> call(env, info);
  Strings arguments, environment, candidates, directory, paths;
  std::span<int32_t> rows, results;
  std::span<double> settings;
  napi_valuetype type;
  napi_typeof(env, call[1], &type);
  bool inherits = type == napi_null;
  SpawnPlan plan;
  if (!arguments.Read(env, call[0]) || arguments.size() == 0 ||
      (!inherits && !environment.Read(env, call[1])) || !candidates.Read(env, call[2]) ||
      candidates.size() == 0 || !directory.Read(env, call[3]) || !paths.Read(env, call[4]) ||
      !call.Ints(5, 0, &rows) || rows.size() % kRow != 0 ||
      !Doubles(env, call[6], kFirstVariable, &settings) || !ReadSettings(settings, &plan) ||
      !call.Ints(7, kFirstEnd + rows.size() / kRow, &results)) {
    return js::Int(env, -EINVAL);
  }
  plan.arguments = arguments.row();
  plan.environment = inherits ? Environment() : environment.row();
  plan.candidates = candidates.row();
  plan.directory = directory[0];

  SpawnOutcome outcome;
  Pipes pipes;
  outcome.step = SpawnStep::kDescriptor;
  int error = CheckRows(rows, paths.size(), &outcome.fd);
  if (error == 0) {
    outcome.step = SpawnStep::kPipe;
    error = ReadDescriptors(rows, paths, &plan, &pipes);
  }
  if (error == 0) error = StartProgram(&plan, &outcome);
  results[kPid] = outcome.pid;
  results[kPidfd] = outcome.pidfd;
  results[kStep] = static_cast<int32_t>(outcome.step);
  results[kFd] = outcome.fd;
  for (size_t i = 0; error == 0 && i < pipes.ours.size(); ++i)
    results[kFirstEnd + i] = pipes.ours[i].Release();
  return js::Int(env, error);
}

}  // namespace

napi_value MakeSpawnExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "start", Start);
  const struct {
    const char* name;
    int resource;
  } limits[] = {
#if defined(RLIMIT_AS)
      {"as", RLIMIT_AS},
#endif
      {"core", RLIMIT_CORE},     {"cpu", RLIMIT_CPU},           {"data", RLIMIT_DATA},
      {"fsize", RLIMIT_FSIZE},   {"memlock", RLIMIT_MEMLOCK},   {"nofile", RLIMIT_NOFILE},
      {"nproc", RLIMIT_NPROC},   {"stack", RLIMIT_STACK},
#if defined(RLIMIT_RSS)
      {"rss", RLIMIT_RSS},
#endif
#if defined(__linux__)
      {"locks", RLIMIT_LOCKS},   {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
      {"rtprio", RLIMIT_RTPRIO}, {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
#endif
  };
  napi_value names = js::Object(env);
  for (const auto& limit : limits) js::Set(env, names, limit.name, js::Int(env, limit.resource));
  js::Set(env, exports, "limits", names);
#if defined(__linux__) || defined(__FreeBSD__)
  js::Set(env, exports, "hasDeathSignal", js::Bool(env, true));
#else
  js::Set(env, exports, "hasDeathSignal", js::Bool(env, false));
#endif
  return exports;
}

}  // namespace forkbeard
