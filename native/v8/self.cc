#include "self.h"

#include <dlfcn.h>

namespace forkbeard {

Program ProgramAt(const void* address) {
  struct Search {
    const void* address;
    Program program;
  } search = {address, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) -> int {
        auto* search = static_cast<Search*>(data);
        Program program;
        program.base = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; i++) {
          const auto& header = info->dlpi_phdr[i];
          uintptr_t start = info->dlpi_addr + header.p_vaddr;
          Program::Range range = {start, start + header.p_memsz, (header.p_flags & PF_X) != 0};
          if (header.p_type == PT_LOAD) program.ranges.push_back(range);
          if (header.p_type == PT_DYNAMIC) program.dynamic = start;
          if (header.p_type == PT_GNU_RELRO) program.relro = range;
        }
        if (!program.Contains(search->address)) return 0;
        search->program = program;
        search->program.found = true;
        return 1;
      },
      &search);
  return search.program;
}

bool StayLoaded() {
  Dl_info info;
  return dladdr(reinterpret_cast<void*>(&StayLoaded), &info) != 0 &&
         dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
}

}  // namespace forkbeard
