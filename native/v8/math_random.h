// Math.random of a context, given a new state: a forked child would go through the same numbers as its parent and its
// siblings. V8 has no call for it, so the state is found where V8 keeps it, by watching what Math.random does to it.
#pragma once

#include <v8.h>

#include <cstdint>

namespace forkbeard {

// False, and nothing is changed, when the state is not found with certainty.
bool ReseedMathRandom(v8::Local<v8::Context> context, v8::Local<v8::Function> random, const uint64_t seed[2]);

}  // namespace forkbeard
