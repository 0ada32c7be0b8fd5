#include "fork/unlisted.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace forkbeard {

namespace {

struct Entry {
  int fd = -1;
  ino_t inode = 0;
  bool is_kernel_object = false;
  bool is_pipe = false;
  bool is_null = false;
};

// Sets of epoll, wake-ups and the like are made by event loops only, and all but libuv's were closed before. Its
// pipes have both ends here, and are among the first descriptors of the process, as is /dev/null.
bool IsNodes(const Entry& entry, std::span<const Entry> all, int last_own_fd) {
  if (entry.is_kernel_object) return true;
  if (entry.fd > last_own_fd) return false;
  if (entry.is_null) return true;
  if (!entry.is_pipe) return false;
  return std::ranges::count_if(all, [&](const Entry& other) { return other.inode == entry.inode; }) >= 2;
}

}  // namespace

void CloseUnlisted(const ForkRequest& request, std::span<const int> keep, int last_own_fd) {
  std::vector<Entry> entries;
  DIR* listing = opendir("/proc/self/fd");
  if (listing == nullptr) return;
  while (dirent* item = readdir(listing)) {
    Entry entry;
    entry.fd = atoi(item->d_name);
    if (item->d_name[0] == '.' || entry.fd <= 2 || entry.fd == dirfd(listing)) continue;
    char link[64];
    char target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", entry.fd);
    ssize_t length = readlink(link, target, sizeof target);
    if (length < 0) continue;
    std::string_view name(target, static_cast<size_t>(length));
    entry.is_kernel_object = name.starts_with("anon_inode:");
    entry.is_pipe = name.starts_with("pipe:");
    entry.is_null = name == "/dev/null";
    struct stat status = {};
    if (fstat(entry.fd, &status) == 0) entry.inode = status.st_ino;
    entries.push_back(entry);
  }
  closedir(listing);
  for (const Entry& entry : entries) {
    if (request.Names(entry.fd) || std::ranges::find(keep, entry.fd) != keep.end()) continue;
    if (IsNodes(entry, entries, last_own_fd)) continue;
    ::close(entry.fd);
  }
}

}  // namespace forkbeard
