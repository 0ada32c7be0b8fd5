#include "forked.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

namespace forkbeard {

namespace {

std::atomic<uint32_t> generation{1};

// A page that the kernel hands to a child as zeroes (MADV_WIPEONFORK, Linux 4.14, OpenBSD's minherit): it sees forks
// that pass by pthread_atfork, too. Where there is none, pthread_atfork alone clears it.
std::atomic<uint32_t>* const not_forked = [] {
  void* page = mmap(nullptr, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static std::atomic<uint32_t> fallback;
  auto* flag = page == MAP_FAILED ? &fallback : static_cast<std::atomic<uint32_t>*>(page);
  flag->store(1);
#if defined(MADV_WIPEONFORK)
  if (flag != &fallback) madvise(page, static_cast<size_t>(sysconf(_SC_PAGESIZE)), MADV_WIPEONFORK);
#endif
  return flag;
}();

const int registered = pthread_atfork(nullptr, nullptr, [] { not_forked->store(0); });

}  // namespace

uint32_t ForkGeneration() {
  (void)registered;
  if (not_forked->load(std::memory_order_relaxed) == 0 && not_forked->exchange(1) == 0)
    generation.fetch_add(1);
  return generation.load(std::memory_order_relaxed);
}

}  // namespace forkbeard
