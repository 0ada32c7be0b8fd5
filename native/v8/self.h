// Where code lies in memory: the program or library that an address belongs to, and this addon itself.
#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forkbeard {

// A loaded program or library, as the dynamic linker knows it.
struct Program {
  struct Range {
    uintptr_t start;
    uintptr_t end;
    bool executable;
  };
  bool found = false;
  uintptr_t base = 0;
  std::vector<Range> ranges;
  uintptr_t dynamic = 0;        // PT_DYNAMIC
  Range relro = {0, 0, false};  // read-only after relocation

  bool Contains(const void* address) const { return Find(address) != nullptr; }
  bool Executes(const void* address) const {
    const Range* range = Find(address);
    return range != nullptr && range->executable;
  }

 private:
  const Range* Find(const void* address) const {
    auto value = reinterpret_cast<uintptr_t>(address);
    for (const Range& range : ranges) {
      if (value >= range.start && value < range.end) return &range;
    }
    return nullptr;
  }
};

Program ProgramAt(const void* address);

// A Worker's end may unload the addon, but what it has put into Node refers to its code. False when it cannot be kept.
bool StayLoaded();

}  // namespace forkbeard
