// forkbeard_v8.node: the only code of the package that knows V8, built for one Node ABI. Loaded on the first fork (or
// the first question whether one is possible), and only into the Node it was built for. JavaScript sees
// `forForks(singleThreaded)`, `reseed(random, seed)` and `forInterrupts()`, and hands what the first and the last return
// to forkbeard.node.
#include <errno.h>
#include <node.h>
#include <node_api.h>
#include <v8-initialization.h>

#include <cstring>
#include <string_view>

#include "fork_hooks.h"
#include "heap_pages.h"
#include "interrupts.h"
#include "math_random.h"
#include "platform.h"
#include "self.h"
#include "worker_pool.h"

namespace forkbeard {

namespace {

// ---------------------------------------------------------------------------- for the fork, without JavaScript

void LetGo() {
  if (WorkerPool* pool = RedirectedPool()) {
    ReleaseNodeThreads();
    pool->Resume();
  }
}

int Prepare(int64_t limit) {
  if (WorkerPool* pool = RedirectedPool()) {
    if (!pool->Quiesce(limit)) return -EBUSY;
    if (!HoldNodeThreads(limit)) {
      pool->Resume();
      return -EBUSY;
    }
  }
  int error = CopyHeapPages();
  if (error < 0) LetGo();
  return error;
}

void Parent() {
  LeaveHeapPagesOut();
  LetGo();
}

int Child() {
  HeapPagesInChild();
  if (WorkerPool* pool = RedirectedPool()) {
    ForgetNodeThreads();
    pool->ResumeInChild();
  }
  return 0;
}

void Wake() {
  if (WorkerPool* pool = RedirectedPool()) pool->StartForQueued();
  WakeForegroundTasks(v8::Isolate::GetCurrent());
}

void Abandon() {
  if (WorkerPool* pool = RedirectedPool()) pool->Unpause();
}

ForkHooks hooks = {ForkHooks::kMagic, sizeof(ForkHooks), Prepare, Parent, Child, Wake,
                   Abandon,           SettleHeapPages};

// ---------------------------------------------------------------------------------- what JavaScript sees

// Whether V8 posts nothing under --single-threaded. Since V8 14 the young generation's collector asks for threads there.
constexpr bool kQuietWhenSingleThreaded = V8_MAJOR_VERSION < 14;

// forForks(singleThreaded): the hooks, or a string that says why there are none.
napi_value ForForks(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result = nullptr;
  bool single_threaded = false;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_bool(env, argument, &single_threaded);
  const char* reason = nullptr;
  if (FollowHeapPages() < 0) {
    reason = "/proc/self/smaps cannot be read, so V8's pages are unknown";
  } else if (RedirectPlatform(v8::Isolate::GetCurrent()) != Redirection::kInstalled &&
             !(single_threaded && kQuietWhenSingleThreaded)) {
    reason = "this Node's platform is not as expected, so its background threads cannot be brought to rest";
  }
  if (reason != nullptr) {
    napi_create_string_utf8(env, reason, NAPI_AUTO_LENGTH, &result);
  } else {
    napi_create_external(env, &hooks, nullptr, nullptr, &result);
  }
  return result;
}

// reseed(random, seed): whether Math.random has a new state, the 16 bytes of `seed`.
napi_value Reseed(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2], result = nullptr;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, arguments[0], &type);
  napi_typedarray_type kind;
  size_t length = 0;
  void* data = nullptr;
  uint64_t seed[2];
  bool done = false;
  if (type == napi_function &&
      napi_get_typedarray_info(env, arguments[1], &kind, &length, &data, nullptr, nullptr) == napi_ok &&
      kind == napi_uint8_array && length == sizeof seed) {
    memcpy(seed, data, sizeof seed);
    // A napi_value is a handle of V8's (js_native_api_v8.h).
    v8::Local<v8::Value> random;
    static_assert(sizeof random == sizeof(napi_value));
    memcpy(static_cast<void*>(&random), &arguments[0], sizeof random);
    v8::Isolate* isolate = v8::Isolate::GetCurrent();
    v8::TryCatch ignored(isolate);
    // All zeroes would be no state.
    if ((seed[0] | seed[1]) != 0) {
      done = ReseedMathRandom(isolate->GetCurrentContext(), random.As<v8::Function>(), seed);
    }
  }
  napi_get_boolean(env, done, &result);
  return result;
}

// forInterrupts(): the hooks, or undefined when this addon cannot stay where they point to.
napi_value ForInterrupts(napi_env env, napi_callback_info) {
  napi_value result = nullptr;
  if (StayLoaded()) {
    napi_create_external(env, &interrupt_hooks, nullptr, nullptr, &result);
  } else {
    napi_get_undefined(env, &result);
  }
  return result;
}

// Whether this is the Node that we were built for: its ABI, and its V8.
bool BuiltForThisNode(napi_env env) {
  napi_value global, process, versions, modules;
  char text[32] = "";
  if (napi_get_global(env, &global) != napi_ok ||
      napi_get_named_property(env, global, "process", &process) != napi_ok ||
      napi_get_named_property(env, process, "versions", &versions) != napi_ok ||
      napi_get_named_property(env, versions, "modules", &modules) != napi_ok ||
      napi_get_value_string_utf8(env, modules, text, sizeof text, nullptr) != napi_ok) {
    return false;
  }
  if (std::string_view(text) != NODE_STRINGIFY(NODE_MODULE_VERSION)) return false;
  constexpr std::string_view kVersion =
      NODE_STRINGIFY(V8_MAJOR_VERSION) "." NODE_STRINGIFY(V8_MINOR_VERSION) ".";
  return std::string_view(v8::V8::GetVersion()).starts_with(kVersion);
}

void Export(napi_env env, napi_value exports, const char* name, napi_callback function) {
  napi_value value;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value) != napi_ok) return;
  napi_set_named_property(env, exports, name, value);
}

}  // namespace

}  // namespace forkbeard

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  if (!forkbeard::BuiltForThisNode(env)) return exports;
  forkbeard::Export(env, exports, "forForks", forkbeard::ForForks);
  forkbeard::Export(env, exports, "reseed", forkbeard::Reseed);
  forkbeard::Export(env, exports, "forInterrupts", forkbeard::ForInterrupts);
  return exports;
}
