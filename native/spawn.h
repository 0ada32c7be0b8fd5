// Starting programs, for JavaScript: one function that reads a request, makes the pipes it asks for, and starts it.
#pragma once

#include <node_api.h>

namespace forkbeard {

napi_value MakeSpawnExports(napi_env env);

}  // namespace forkbeard
