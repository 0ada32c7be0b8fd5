#include "forked.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

namespace forkbeard {

namespace {

std::atomic<uint32_t> generation{1};

// In a page that the kernel hands to a child as zeroes (MADV_WIPEONFORK, Linux 4.14): it sees forks that pass by
// pthread_atfork, too. Where there is none, pthread_atfork alone clears it.
uint32_t* MakeWord() {
  auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static uint32_t fallback;
  uint32_t* word = page == MAP_FAILED ? &fallback : static_cast<uint32_t*>(page);
#if defined(MADV_WIPEONFORK)
  if (word != &fallback) madvise(page, size, MADV_WIPEONFORK);
#endif
  *word = generation;
  pthread_atfork(nullptr, nullptr, [] { *ForkWord() = 0; });
  return word;
}

}  // namespace

uint32_t* ForkWord() {
  static uint32_t* const kWord = MakeWord();
  return kWord;
}

uint32_t ForkGeneration() {
  std::atomic_ref<uint32_t> word(*ForkWord());
  uint32_t seen = word.load(std::memory_order_relaxed);
  if (seen != 0) return seen;
  // Threads of the child may come here at once; one of them counts.
  uint32_t next = generation.load() + 1;
  if (word.compare_exchange_strong(seen, next)) {
    generation.store(next);
    return next;
  }
  return seen;
}

}  // namespace forkbeard
