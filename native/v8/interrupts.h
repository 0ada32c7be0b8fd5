// What V8 can tell of JavaScript that does not come back: its stack, and that its heap is about to end. Made for
// native/lifeline.cc, which reaches it through interrupt_hooks.h.
#pragma once

#include "interrupt_hooks.h"

namespace forkbeard {

extern InterruptHooks interrupt_hooks;

}  // namespace forkbeard
