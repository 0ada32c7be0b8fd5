// Where V8's memory lies: side by side. V8 asks for each chunk of its heap (256 KB, or one large object) at an address of
// chance in 64 TB. Every one of them is then a mapping of its own with page tables of its own, all of which a fork must
// make again: at 1 GB that are 4400, and they cost more than the gigabyte itself. Called by heap_pages.cc, once a process.
#pragma once

#include "self.h"

namespace forkbeard {

// From here on, new chunks are placed next to each other. Those that are there stay where they are.
void PlaceHeapTogether(const Program& node);

}  // namespace forkbeard
