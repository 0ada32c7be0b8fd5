// The functions that a loaded program imports, exchanged for others: its own calls lead there from then on, and nobody
// else's do. Called by heap_pages.cc, once a process.
#pragma once

#include <atomic>
#include <string_view>

#include "self.h"

namespace forkbeard {

// Puts `replacement` where the program keeps the address of the function that it imports as `name`. `*original` is what
// was there, or stays as it is where that cannot be called. 0 or a negative errno.
int ReplaceImport(const Program& program, std::string_view name, void* replacement, void** original);

// The same for a replacement that calls `original`, which must be callable from the beginning.
template <class Function>
int ReplaceImport(const Program& program, std::string_view name, Function* replacement,
                  std::atomic<Function*>* original) {
  void* found = nullptr;
  int error = ReplaceImport(program, name, reinterpret_cast<void*>(replacement), &found);
  if (found != nullptr) *original = reinterpret_cast<Function*>(found);
  return error;
}

}  // namespace forkbeard
