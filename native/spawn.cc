// Takes a spawn request from JavaScript, a whole environment in one crossing, and starts the program.
#include "spawn.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <crt_externs.h>
#endif

#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "js.h"
#include "spawn/plan.h"
#include "spawn/request.h"

namespace forkbeard {
namespace {

#if defined(__GLIBC__)
using LimitName = __rlimit_resource_t;
#else
using LimitName = int;
#endif

char** Environment() {
#if defined(__APPLE__)
  return *_NSGetEnviron();
#else
  return environ;
#endif
}

// False when the value is no string, or not all of its parts end with a zero.
bool ReadBlock(napi_env env, napi_value value, StringBlock* out) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
  std::string block(length, '\0');
  // Writes the zero that std::string keeps behind its end.
  napi_get_value_string_utf8(env, value, block.data(), length + 1, &length);
  return out->Take(std::move(block));
}

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

// (arguments, environment or null for ours, candidates, directory (none or one), paths, rows, settings, results)
napi_value Start(napi_env env, napi_callback_info info) {
  js::Call<8> call(env, info);
  StringBlock arguments, environment, candidates, directory, paths;
  std::span<int32_t> rows, results;
  std::span<double> settings;
  napi_valuetype type;
  napi_typeof(env, call[1], &type);
  bool inherits = type == napi_null;
  SpawnPlan plan;
  if (!ReadBlock(env, call[0], &arguments) || arguments.size() == 0 ||
      (!inherits && !ReadBlock(env, call[1], &environment)) || !ReadBlock(env, call[2], &candidates) ||
      candidates.size() == 0 || !ReadBlock(env, call[3], &directory) || !ReadBlock(env, call[4], &paths) ||
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
  SpawnPipes pipes;
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

// setLimit(resource, soft, hard): of this process. A hard limit of NaN stays as it is, Infinity is none.
napi_value SetOwnLimit(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t resource;
  double soft, hard;
  if (!call.Int(0, &resource) || !call.Number(1, &soft) || !call.Number(2, &hard) || !(soft >= 0) || hard < 0)
    return nullptr;
  auto value = [](double number) {
    return number >= static_cast<double>(RLIM_INFINITY) ? RLIM_INFINITY : static_cast<rlim_t>(number);
  };
  struct rlimit limit;
  if (getrlimit(static_cast<LimitName>(resource), &limit) < 0) return js::Int(env, -errno);
  limit.rlim_cur = value(soft);
  if (!std::isnan(hard)) limit.rlim_max = value(hard);
  return js::Int(env, setrlimit(static_cast<LimitName>(resource), &limit) < 0 ? -errno : 0);
}

}  // namespace

napi_value MakeSpawnExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "start", Start);
  js::SetFunction(env, exports, "setLimit", SetOwnLimit);
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
