// A list of descriptors was given to a fork: in the child the others go, without those that Node and its threads live
// on. Called by process.cc before any JavaScript runs there.
#pragma once

#include <span>

#include "fork/request.h"

namespace forkbeard {

// `keep` beside the request's own; `last_own_fd` is the last of those that Node opened for itself when it started.
void CloseUnlisted(const ForkRequest& request, std::span<const int> keep, int last_own_fd);

}  // namespace forkbeard
