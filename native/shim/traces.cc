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

bool Place::Read(const std::string& path) {
  struct stat file;
  known_ = lstat(path.c_str(), &file) == 0;
  if (!known_) return false;
  device_ = file.st_dev;
  inode_ = file.st_ino;
  return true;
}

bool Place::IsAt(const std::string& path) const {
  Place other;
  return known_ && other.Read(path) && other.device_ == device_ && other.inode_ == inode_;
}

int Lock::Take(const std::string& path) {
  for (;;) {
    Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kPrivate));
    if (!fd) return -errno;
    struct stat held, named;
    if (!held_.empty() && fstat(held_.back().get(), &held) == 0 && fstat(fd.get(), &named) == 0 &&
        held.st_dev == named.st_dev && held.st_ino == named.st_ino) {
      return 0;
    }
    if (flock(fd.get(), LOCK_EX | LOCK_NB) < 0) return -errno;
    // Somebody may have removed the file between the two calls: then the lock that others see is another.
    if (fstat(fd.get(), &held) < 0) return -errno;
    if (stat(path.c_str(), &named) < 0) {
      if (errno == ENOENT) continue;
      return -errno;
    }
    if (held.st_dev != named.st_dev || held.st_ino != named.st_ino) continue;
    held_.push_back(std::move(fd));
    return 0;
  }
}

std::string Lock::name() const {
  struct stat file;
  if (held_.empty() || fstat(held_.back().get(), &file) < 0) return "";
  return std::to_string(file.st_dev) + ":" + std::to_string(file.st_ino);
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
  place_.Read(path);
  return 0;
}

void Record::Remove() {
  if (!path_.empty() && place_.IsAt(path_)) unlink(path_.c_str());
  path_.clear();
}

}  // namespace forkbeard::shim
