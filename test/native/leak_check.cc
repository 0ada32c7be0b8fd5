// Looks for leaks now, while the process lives: vitest kills the processes of its test files half a second after they
// are done, which is less than LeakSanitizer may take at exit. Built and loaded by sanitizer runs alone.
#include <node_api.h>
#include <sanitizer/lsan_interface.h>

namespace {

napi_value LeakCheck(napi_env, napi_callback_info) {
  __lsan_do_recoverable_leak_check();
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value function = nullptr;
  napi_create_function(env, "leakCheck", NAPI_AUTO_LENGTH, LeakCheck, nullptr, &function);
  return function;
}
