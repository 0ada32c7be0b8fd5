#include "imports.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace forkbeard {

namespace {

using Rela = ElfW(Rela);
using Symbol = ElfW(Sym);

}  // namespace

int ReplaceImport(const Program& program, std::string_view name, void* replacement, void** original) {
  const Symbol* symbols = nullptr;
  const char* strings = nullptr;
  struct Table {
    const Rela* entries = nullptr;
    size_t bytes = 0;
  } tables[2];
  for (auto* entry = reinterpret_cast<const ElfW(Dyn)*>(program.dynamic); entry->d_tag != DT_NULL; entry++) {
    // glibc has turned the addresses into absolute ones, musl has not.
    auto absolute = [&] {
      return entry->d_un.d_ptr < program.base ? program.base + entry->d_un.d_ptr : entry->d_un.d_ptr;
    };
    switch (entry->d_tag) {
      case DT_SYMTAB:
        symbols = reinterpret_cast<const Symbol*>(absolute());
        break;
      case DT_STRTAB:
        strings = reinterpret_cast<const char*>(absolute());
        break;
      case DT_JMPREL:
        tables[0].entries = reinterpret_cast<const Rela*>(absolute());
        break;
      case DT_PLTRELSZ:
        tables[0].bytes = entry->d_un.d_val;
        break;
      case DT_RELA:
        tables[1].entries = reinterpret_cast<const Rela*>(absolute());
        break;
      case DT_RELASZ:
        tables[1].bytes = entry->d_un.d_val;
        break;
      case DT_PLTREL:
        if (entry->d_un.d_val != DT_RELA) return -ENOTSUP;
        break;
    }
  }
  if (symbols == nullptr || strings == nullptr) return -ENOTSUP;
  bool replaced = false;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (const Table& table : tables) {
    for (size_t i = 0; table.entries != nullptr && i < table.bytes / sizeof(Rela); i++) {
      const Rela& rela = table.entries[i];
      if (ELF64_R_SYM(rela.r_info) == 0 || rela.r_addend != 0) continue;
#if defined(__x86_64__)
      const auto type = ELF64_R_TYPE(rela.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) continue;
#elif defined(__aarch64__)
      const auto type = ELF64_R_TYPE(rela.r_info);
      if (type != R_AARCH64_JUMP_SLOT && type != R_AARCH64_GLOB_DAT && type != R_AARCH64_ABS64) continue;
#else
      continue;
#endif
      if (name != strings + symbols[ELF64_R_SYM(rela.r_info)].st_name) continue;
      auto address = program.base + rela.r_offset;
      auto* slot = reinterpret_cast<void**>(address);
      // With immediate binding the table is read-only by now.
      bool sealed = address >= program.relro.start && address < program.relro.end;
      auto* page_start = reinterpret_cast<void*>(address & ~(page - 1));
      if (sealed && mprotect(page_start, page, PROT_READ | PROT_WRITE) < 0) return -errno;
      // Within the program itself is only what would look the function up again, and put it in place of ours.
      if (!program.Contains(*slot)) *original = *slot;
      __atomic_store_n(slot, replacement, __ATOMIC_RELEASE);
      if (sealed) mprotect(page_start, page, PROT_READ);
      replaced = true;
    }
  }
  return replaced ? 0 : -ENOENT;
}

}  // namespace forkbeard
