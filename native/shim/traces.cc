#include "shim/traces.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process_table.h"

namespace forkbeard::shim {
namespace {

constexpr mode_t kPrivate = 0600;

// 0 or, when it cannot be read now, a negative errno: who is not known is not written down.
int Birth(pid_t pid, std::string* text) {
  ProcessRow row;
  const bool known = ReadProcess(pid, &row);
  if (!known && IsShortage(errno)) return -errno;
  *text = known ? std::to_string(row.birth) : "null";
  return 0;
}

int WriteAll(int fd, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    ssize_t count = write(fd, text.data() + at, text.size() - at);
    if (count < 0 && errno != EINTR) return -errno;
    if (count > 0) at += static_cast<size_t>(count);
  }
  return 0;
}

}  // namespace

int Lock::Take(const std::string& path) {
  for (;;) {
    Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kPrivate));
    if (!fd) return -errno;
    if (flock(fd.get(), LOCK_EX | LOCK_NB) < 0) return -errno;
    // Somebody may have removed the file between the two calls: then the lock that others see is another.
    struct stat held, named;
    if (fstat(fd.get(), &held) < 0) return -errno;
    if (stat(path.c_str(), &named) < 0) {
      if (errno == ENOENT) continue;
      return -errno;
    }
    if (held.st_dev != named.st_dev || held.st_ino != named.st_ino) continue;
    fd_ = std::move(fd);
    return 0;
  }
}

int Record::Write(const std::string& path, const std::string& head, pid_t service) {
  const std::string pid = std::to_string(service);
  std::string birth, own_birth;
  if (int error = Birth(service, &birth); error < 0) return error;
  if (int error = Birth(getpid(), &own_birth); error < 0) return error;
  const std::string text = head + ",\"pid\":" + pid + ",\"startTime\":" + birth + ",\"groupId\":" + pid +
                           ",\"shim\":{\"pid\":" + std::to_string(getpid()) + ",\"startTime\":" + own_birth +
                           "}}\n";
  // All of it or nothing is seen. What an earlier shim did not finish is in our way only.
  const std::string unfinished = path + ".new";
  unlink(unfinished.c_str());
  Fd fd(open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kPrivate));
  if (!fd) return -errno;
  int error = WriteAll(fd.get(), text);
  if (error == 0 && rename(unfinished.c_str(), path.c_str()) < 0) error = -errno;
  if (error < 0) {
    unlink(unfinished.c_str());
    return error;
  }
  path_ = path;
  return 0;
}

void Record::Remove() {
  if (!path_.empty()) unlink(path_.c_str());
  path_.clear();
}

}  // namespace forkbeard::shim
