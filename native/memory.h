// Memory that several processes share: a descriptor that stands for it, and ArrayBuffers over it. What lib/process/
// shared-memory.ts is made of. Never maps what is smaller than what is asked for: touching the rest would be fatal.
#pragma once

#include <node_api.h>

#include <cstddef>

namespace forkbeard {

// The first `bytes` of what the descriptor stands for, shared and writable; null with a negative errno in `error`.
void* MapShared(int fd, size_t bytes, int* error);
void UnmapShared(void* address, size_t bytes);

napi_value MakeMemoryExports(napi_env env);

}  // namespace forkbeard
