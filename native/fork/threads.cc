#include "fork/threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fd.h"

namespace forkbeard {

std::vector<std::pair<int, std::string>> ThreadNames() {
  std::vector<std::pair<int, std::string>> threads;
  DIR* listing = opendir("/proc/self/task");
  if (listing == nullptr) return threads;
  while (dirent* item = readdir(listing)) {
    if (item->d_name[0] == '.') continue;
    char path[sizeof item->d_name + sizeof "/comm"];
    snprintf(path, sizeof path, "%s/comm", item->d_name);
    Fd comm(openat(dirfd(listing), path, O_RDONLY | O_CLOEXEC));
    char name[64];
    ssize_t length = comm ? read(comm.get(), name, sizeof name) : 0;
    // It may have ended at this moment. The last letter is a line's end.
    if (length > 0)
      threads.emplace_back(atoi(item->d_name), std::string(name, static_cast<size_t>(length) - 1));
  }
  closedir(listing);
  return threads;
}

}  // namespace forkbeard
