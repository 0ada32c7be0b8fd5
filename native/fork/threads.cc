#include "fork/threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <utility>

#include "fd.h"

namespace forkbeard {

namespace {

constexpr uint64_t kSettling = 1'000'000'000;

class Listing {
 public:
  Listing() : directory_(opendir("/proc/self/task")) {}
  Listing(const Listing&) = delete;
  Listing& operator=(const Listing&) = delete;
  ~Listing() {
    if (directory_ != nullptr) closedir(directory_);
  }

  std::vector<int> Numbers() {
    std::vector<int> numbers;
    while (dirent* item = directory_ != nullptr ? readdir(directory_) : nullptr) {
      if (item->d_name[0] != '.') numbers.push_back(atoi(item->d_name));
    }
    return numbers;
  }
  // Empty when it has ended at this moment.
  std::string Name(int number) {
    char path[32];
    snprintf(path, sizeof path, "%d/comm", number);
    Fd comm(openat(dirfd(directory_), path, O_RDONLY | O_CLOEXEC));
    char name[64];
    ssize_t length = comm ? read(comm.get(), name, sizeof name) : 0;
    // The last letter is a line's end.
    return std::string(name, static_cast<size_t>(std::max<ssize_t>(length, 1)) - 1);
  }

 private:
  DIR* const directory_;
};

}  // namespace

const std::vector<Thread>& Threads::List() {
  Listing listing;
  std::vector<int> numbers = listing.Numbers();
  bool same = std::ranges::equal(numbers, threads_, {}, {}, &Thread::number);
  if (same && settled_) return threads_;
  uint64_t now = uv_hrtime();
  std::vector<Thread> found;
  for (int number : numbers) {
    if (std::string name = listing.Name(number); !name.empty()) found.push_back({number, std::move(name)});
  }
  if (found != threads_) {
    read_ = now;
    threads_ = std::move(found);
  }
  settled_ = now - read_ >= kSettling;
  return threads_;
}

}  // namespace forkbeard
