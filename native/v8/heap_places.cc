#include "heap_places.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "imports.h"

#if !defined(MAP_FIXED_NOREPLACE)
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace forkbeard {

namespace {

// V8's unit, and what it aligns chunks to.
constexpr uintptr_t kChunk = 256 << 10;
// More is reserved at once for code and the like, which V8 wants where it wants it.
constexpr size_t kLargest = 32 << 20;
// V8's own limit for addresses of chance.
constexpr uintptr_t kEnd = 0x400000000000;
// How many places that are taken are passed over: other threads map, too.
constexpr int kTries = 8;

void* CallMmap(void* hint, size_t length, int protection, int flags, int fd, off_t offset) {
  return reinterpret_cast<void*>(syscall(SYS_mmap, hint, length, protection, flags, fd, offset));
}
using Mmap = void*(void*, size_t, int, int, int, off_t);
std::atomic<Mmap*> real_mmap{CallMmap};

// Where the next chunk goes; 0 before the first. Not exact, and need not be: the kernel says when a place is taken.
std::atomic<uintptr_t> next{0};

// V8 asks for more than it wants and gives back both ends of what is not aligned: what we place it at is, so the next one
// fits behind the one before.
uintptr_t After(uintptr_t place, size_t length) { return (place + length) & ~(kChunk - 1); }

// Memory for the heap, which nobody minds where it is.
bool IsChunk(const void* hint, size_t length, int protection, int flags, int fd) {
  auto wish = reinterpret_cast<uintptr_t>(hint);
  return wish != 0 && wish < kEnd && (wish & (kChunk - 1)) == 0 && length >= kChunk && length <= kLargest &&
         fd == -1 && (flags & ~MAP_NORESERVE) == (MAP_PRIVATE | MAP_ANONYMOUS) &&
         (protection == PROT_NONE || protection == (PROT_READ | PROT_WRITE));
}

void* PlacedMmap(void* hint, size_t length, int protection, int flags, int fd, off_t offset) {
  Mmap* map = real_mmap.load();
  if (!IsChunk(hint, length, protection, flags, fd)) return map(hint, length, protection, flags, fd, offset);
  int saved = errno;
  uintptr_t place = next.load(std::memory_order_relaxed);
  for (int i = 0; i < kTries && place != 0 && place + length < kEnd; i++) {
    void* wanted = reinterpret_cast<void*>(place);
    void* got = map(wanted, length, protection, flags | MAP_FIXED_NOREPLACE, fd, offset);
    if (got == wanted) {
      next.store(After(place, length), std::memory_order_relaxed);
      errno = saved;
      return got;
    }
    // Before Linux 4.17 the flag is not known, and the address a wish.
    if (got != MAP_FAILED) {
      munmap(got, length);
    } else if (errno != EEXIST) {
      break;
    }
    place = After(place, length) + kChunk;
  }
  errno = saved;
  // The first one, or there was no room: V8's own wish begins a new row.
  void* got = map(hint, length, protection, flags, fd, offset);
  if (got == hint) next.store(After(reinterpret_cast<uintptr_t>(got), length), std::memory_order_relaxed);
  return got;
}

}  // namespace

void PlaceHeapTogether(const Program& node) {
  // Where the import is not found, everything is as it was, only slower.
  // glibc has two names for it.
  for (const char* name : {"mmap64", "mmap"}) ReplaceImport(node, name, PlacedMmap, &real_mmap);
}

}  // namespace forkbeard
