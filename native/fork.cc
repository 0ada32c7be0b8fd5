#include "fork.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <uv.h>

#if defined(__linux__)
#include <sys/random.h>
#endif

#include <algorithm>
#include <span>
#include <utility>

#include "fork/moment.h"
#include "fork/output.h"
#include "fork/process.h"
#include "js.h"

namespace forkbeard {

namespace {

template <size_t N>
Forks* Of(const js::Call<N>& call) {
  return static_cast<Forks*>(call.data);
}

template <size_t N>
bool ReadRequest(const js::Call<N>& call, size_t index, ForkRequest* request) {
  if (!call.Uint(index, &request->flags)) return false;
  std::span<int32_t> named;
  if (!call.Ints(index + 1, 0, &named)) return false;
  request->named.assign(named.begin(), named.end());
  return true;
}

// useHooks(hooks): 0, or -EINVAL if these are not the ones of a forkbeard_v8.node that belongs to us.
napi_value UseHooks(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  void* data = nullptr;
  napi_valuetype type;
  if (napi_typeof(env, call[0], &type) != napi_ok || type != napi_external ||
      napi_get_value_external(env, call[0], &data) != napi_ok || data == nullptr) {
    return js::Int(env, -EINVAL);
  }
  auto* hooks = static_cast<const ForkHooks*>(data);
  if (hooks->magic != ForkHooks::kMagic || hooks->size != sizeof(ForkHooks)) return js::Int(env, -EINVAL);
  Of(call)->hooks = hooks;
  return js::Int(env, 0);
}

// forkLater(flags, named, ms, quiet, done)
napi_value ForkLater(napi_env env, napi_callback_info info) {
  js::Call<5> call(env, info);
  Forks* forks = Of(call);
  ForkRequest request;
  double patience;
  napi_valuetype quiet, done;
  if (forks->hooks == nullptr) return js::Int(env, -ENOTSUP);
  if (!ReadRequest(call, 0, &request) || !call.Number(2, &patience) ||
      napi_typeof(env, call[3], &quiet) != napi_ok || quiet != napi_function ||
      napi_typeof(env, call[4], &done) != napi_ok || done != napi_function) {
    return js::Int(env, -EINVAL);
  }
  // A century is for ever.
  uint64_t nanos =
      patience < 3e12 ? static_cast<uint64_t>(std::max(0.0, patience) * 1e6) : 3'000'000'000'000'000'000;
  auto* moment = new ForkMoment(forks, std::move(request), uv_hrtime() + nanos);
  return js::Int(env, moment->Start(call[3], call[4]));
}

// forkNow(flags, named, out): the pid, 0 in the child, or a negative errno; out is the report's descriptor and the
// pidfd of a detached child (or -1).
napi_value ForkNow(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  Forks* forks = Of(call);
  ForkRequest request;
  std::span<int32_t> out;
  if (forks->hooks == nullptr) return js::Int(env, -ENOTSUP);
  if (!ReadRequest(call, 0, &request) || !call.Ints(2, 2, &out)) return js::Int(env, -EINVAL);
  ForkOutcome outcome = ForkHere(forks, request);
  out[0] = outcome.report.Release();
  out[1] = outcome.pidfd.Release();
  return js::Int(env, outcome.pid);
}

// abandon(): a forkNow that said -EBUSY is not going to be repeated.
napi_value Abandon(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  if (Of(call)->hooks != nullptr) Of(call)->hooks->abandon();
  return nullptr;
}

// report(): in a child, once: it lives.
napi_value Report(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  Fd report = std::move(Of(call)->report);
  int alive = 0;
  while (report && write(report.get(), &alive, sizeof alive) < 0 && errno == EINTR) {
  }
  return nullptr;
}

// threads(): [[number, name], …] of this process's threads.
napi_value ListThreads(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  napi_value list;
  napi_create_array(env, &list);
  uint32_t index = 0;
  for (const auto& [number, name] : Of(call)->threads.List()) {
    napi_value pair;
    napi_create_array_with_length(env, 2, &pair);
    napi_set_element(env, pair, 0, js::Int(env, number));
    napi_set_element(env, pair, 1, js::String(env, name.c_str()));
    napi_set_element(env, list, index++, pair);
  }
  return list;
}

// fillRandom(bytes): whether the kernel has filled them. Node's own way leads through OpenSSL, which a new child would
// have to seed first.
napi_value FillRandom(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  std::span<uint8_t> bytes;
  if (!call.Bytes(0, &bytes)) return js::Bool(env, false);
#if defined(__linux__)
  while (!bytes.empty()) {
    ssize_t count = getrandom(bytes.data(), bytes.size(), 0);
    if (count < 0 && errno != EINTR) return js::Bool(env, false);
    if (count > 0) bytes = bytes.subspan(static_cast<size_t>(count));
  }
#endif
  return js::Bool(env, bytes.empty());
}

// requests(): how many requests libuv has under way, of whatever kind.
napi_value Requests(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  return js::Number(env, Of(call)->loop->active_reqs.count);
}

// hasWork(): whether Node's loop would go on.
napi_value HasWork(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  return js::Bool(env, uv_loop_alive(Of(call)->loop) != 0);
}

// outputKind(fd)
napi_value OutputKindOf(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t fd;
  if (!call.Int(0, &fd)) return js::Int(env, -EINVAL);
  return js::Int(env, static_cast<int32_t>(KindOfOutput(Of(call)->loop, fd)));
}

// finishOutput(fd, rest, patience, limit): what is queued for that descriptor, and `rest`, is written. How many bytes were
// not, though the reader is there: it took nothing for `patience` ms, or was not done after `limit` ms.
napi_value FinishOutputOf(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  uint32_t patience, limit;
  std::span<uint8_t> rest;
  if (!call.Int(0, &fd) || !call.Bytes(1, &rest) || !call.Uint(2, &patience) || !call.Uint(3, &limit)) {
    return js::Int(env, -EINVAL);
  }
  constexpr uint64_t kNanos = 1'000'000;
  return js::Number(env, static_cast<double>(FinishOutput(Of(call)->loop, fd, rest, patience * kNanos,
                                                          uv_hrtime() + limit * kNanos)));
}

// end(code): out of here, past everything that would wait for threads that a child does not have.
napi_value End(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t code = 0;
  call.Int(0, &code);
  fflush(nullptr);
  _exit(code);
}

}  // namespace

napi_value MakeForkExports(napi_env env) {
  auto* forks = new Forks(env);
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "useHooks", UseHooks, forks);
  js::SetFunction(env, exports, "forkLater", ForkLater, forks);
  js::SetFunction(env, exports, "forkNow", ForkNow, forks);
  js::SetFunction(env, exports, "abandon", Abandon, forks);
  js::SetFunction(env, exports, "report", Report, forks);
  js::SetFunction(env, exports, "threads", ListThreads, forks);
  js::SetFunction(env, exports, "fillRandom", FillRandom);
  js::SetFunction(env, exports, "requests", Requests, forks);
  js::SetFunction(env, exports, "hasWork", HasWork, forks);
  js::SetFunction(env, exports, "outputKind", OutputKindOf, forks);
  js::SetFunction(env, exports, "finishOutput", FinishOutputOf, forks);
  js::SetFunction(env, exports, "end", End);
  napi_add_finalizer(
      env, exports, forks, [](napi_env, void* data, void*) { delete static_cast<Forks*>(data); }, nullptr,
      nullptr);
  return exports;
}

}  // namespace forkbeard
