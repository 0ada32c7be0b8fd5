#include "heap_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string_view>

#include "heap_places.h"
#include "imports.h"
#include "platform.h"
#include "self.h"

namespace forkbeard {

namespace {

// Lengths need not be whole pages, and the kernel takes them for such.
uintptr_t EndOf(uintptr_t start, size_t length) {
  static const auto kPage = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  return (start + length + kPage - 1) & ~(kPage - 1);
}

// From start to end, without overlaps.
class Ranges {
 public:
  void Add(uintptr_t start, uintptr_t end) {
    auto at = ranges_.upper_bound(start);
    if (at != ranges_.begin() && std::prev(at)->second >= start) {
      --at;
      start = at->first;
      end = end > at->second ? end : at->second;
      at = ranges_.erase(at);
    }
    while (at != ranges_.end() && at->first <= end) {
      end = end > at->second ? end : at->second;
      at = ranges_.erase(at);
    }
    ranges_.emplace_hint(at, start, end);
  }
  void Remove(uintptr_t start, uintptr_t end) {
    auto at = ranges_.upper_bound(start);
    if (at != ranges_.begin() && std::prev(at)->second > start) --at;
    while (at != ranges_.end() && at->first < end) {
      auto [from, to] = *at;
      at = ranges_.erase(at);
      if (from < start) ranges_.emplace_hint(at, from, start);
      if (to > end) at = ranges_.emplace_hint(at, end, to);
    }
  }
  void Add(const Ranges& others) {
    for (auto [start, end] : others.ranges_) Add(start, end);
  }
  void Clear() { ranges_.clear(); }
  // 0, or a negative errno: of some range not all was done.
  int Advise(int advice) const {
    int result = 0;
    for (auto [start, end] : ranges_) {
      // ENOMEM says that a part is not mapped, and all the rest was done (madvise(2)).
      if (madvise(reinterpret_cast<void*>(start), end - start, advice) < 0 && errno != ENOMEM)
        result = -errno;
    }
    return result;
  }

 private:
  std::map<uintptr_t, uintptr_t> ranges_;
};

Ranges ranges;
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
bool followed = false;  // no mark is made without our notice
bool known = false;     // those that were made before have been found
bool copied = false;    // the pages are marked for copying at present

// What ours call on. A name would not do: in a program that is not position-independent it means the program's own
// entry for the function, which leads to ours.
int CallMadvise(void* address, size_t length, int advice) {
  return static_cast<int>(syscall(SYS_madvise, address, length, advice));
}
int CallMunmap(void* address, size_t length) {
  return static_cast<int>(syscall(SYS_munmap, address, length));
}
std::atomic<int (*)(void*, size_t, int)> real_madvise{CallMadvise};
std::atomic<int (*)(void*, size_t)> real_munmap{CallMunmap};

// What Node's program calls instead of madvise and munmap.
int FollowedMadvise(void* address, size_t length, int advice) {
  int result = real_madvise.load()(address, length, advice);
  if (result == 0 && (advice == MADV_DONTFORK || advice == MADV_DOFORK)) {
    int saved = errno;
    auto start = reinterpret_cast<uintptr_t>(address);
    pthread_mutex_lock(&mutex);
    if (advice == MADV_DONTFORK) {
      ranges.Add(start, EndOf(start, length));
    } else {
      ranges.Remove(start, EndOf(start, length));
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
  }
  return result;
}
int FollowedMunmap(void* address, size_t length) {
  // Forgotten before: a moment later the addresses may be somebody else's.
  auto start = reinterpret_cast<uintptr_t>(address);
  int saved = errno;
  pthread_mutex_lock(&mutex);
  ranges.Remove(start, EndOf(start, length));
  pthread_mutex_unlock(&mutex);
  errno = saved;
  return real_munmap.load()(address, length);
}

// --------------------------------------------------------------------------- what was marked before us

// V8 asks for addresses of its own choice, far below where the kernel places what has none. Up there only V8's memory
// is mapped without a reserve.
constexpr uintptr_t kKernelPlaces = 0x400000000000;

int ReadMarkedRanges() {
  FILE* smaps = fopen("/proc/self/smaps", "re");
  if (smaps == nullptr) return -errno;
  char* line = nullptr;
  size_t capacity = 0;
  uintptr_t start = 0, end = 0;
  bool anonymous = false;
  // Collected first: adding allocates, and mapping memory while the kernel lists it would confuse the list.
  Ranges found;
  while (getline(&line, &capacity, smaps) > 0) {
    uintptr_t from, to;
    unsigned long inode;
    char permissions[5];
    int named = 0;
    int read = sscanf(line, "%zx-%zx %4s %*x %*x:%*x %lu %n", &from, &to, permissions, &inode, &named);
    if (read == 4) {
      start = from;
      end = to;
      anonymous = inode == 0 && permissions[3] == 'p' && line[named] == '\0';
      continue;
    }
    std::string_view text = line;
    if (!anonymous || !text.starts_with("VmFlags:")) continue;
    bool marked = text.find(" dc") != text.npos;
    bool unreserved = text.find(" nr") != text.npos;
    if (marked && (unreserved || start < kKernelPlaces)) found.Add(start, end);
  }
  int error = ferror(smaps) != 0 ? -EIO : 0;
  free(line);
  fclose(smaps);
  if (error < 0) return error;
  pthread_mutex_lock(&mutex);
  // What a thread of somebody else's unmapped while we read does no harm: nobody else uses addresses of V8's choice.
  ranges.Add(found);
  pthread_mutex_unlock(&mutex);
  return 0;
}

bool CanReadMarkedRanges() {
  FILE* smaps = fopen("/proc/self/smaps", "re");
  if (smaps == nullptr) return false;
  bool readable = fgetc(smaps) != EOF;
  fclose(smaps);
  return readable;
}

int Follow() {
  Program node = ProgramAt(AddressInNode());
  if (!node.found || node.dynamic == 0) return -ENOTSUP;
  if (!CanReadMarkedRanges()) return -ENOTSUP;
  followed = ReplaceImport(node, "munmap", FollowedMunmap, &real_munmap) == 0 &&
             ReplaceImport(node, "madvise", FollowedMadvise, &real_madvise) == 0;
  PlaceHeapTogether(node);
  return 0;
}

}  // namespace

int FollowHeapPages() {
  static int result = StayLoaded() ? Follow() : -ENOTSUP;
  return result;
}

int CopyHeapPages() {
  if (!followed) {
    pthread_mutex_lock(&mutex);
    ranges.Clear();
    pthread_mutex_unlock(&mutex);
  }
  // Not when the following begins: a thread of V8's may be on its way to the kernel past us then, and while we read it
  // waits there for the lock on the memory's list, to mark a page where we have looked already. Now none is.
  if (!followed || !known) {
    if (int error = ReadMarkedRanges(); error < 0) return error;
    known = true;
  }
  pthread_mutex_lock(&mutex);
  if (int error = ranges.Advise(MADV_DOFORK); error < 0) {
    ranges.Advise(MADV_DONTFORK);
    pthread_mutex_unlock(&mutex);
    return error;
  }
  copied = true;
  return 0;
}

void LeaveHeapPagesOut() {
  ranges.Advise(MADV_DONTFORK);
  copied = false;
  pthread_mutex_unlock(&mutex);
}

void HeapPagesInChild() { pthread_mutex_init(&mutex, nullptr); }

void SettleHeapPages() {
  pthread_mutex_lock(&mutex);
  if (copied) ranges.Advise(MADV_DONTFORK);
  copied = false;
  pthread_mutex_unlock(&mutex);
}

}  // namespace forkbeard
