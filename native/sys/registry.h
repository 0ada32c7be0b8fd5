// The parts of the sys functions, one file each. Every Register… puts its functions on the object that sys.cc makes.
//
// All functions return a result or a negative errno. A value of a wrong type or out of range makes them return
// undefined and do nothing: lib/sys/ words the error.
#pragma once

#include <node_api.h>

namespace forkbeard::sys {

void RegisterTransfer(napi_env env, napi_value exports);
void RegisterSockets(napi_env env, napi_value exports);
void RegisterDescriptors(napi_env env, napi_value exports);
void RegisterMessages(napi_env env, napi_value exports);
void RegisterOptions(napi_env env, napi_value exports);
void RegisterProcess(napi_env env, napi_value exports);

}  // namespace forkbeard::sys
