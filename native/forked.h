// Tells a process that it is a forked child, whoever forked it and however, at the price of one memory read.
#pragma once

#include <cstdint>

namespace forkbeard {

// Starts at 1 and grows by one in each forked child on the way here. A kernel object that was made under another
// generation belongs to the parent as well: it may be closed, but never edited or waited on.
uint32_t ForkGeneration();

// Where it can be read without a call, by JavaScript: the generation, or 0 in a child that has not counted itself yet.
uint32_t* ForkWord();

}  // namespace forkbeard
