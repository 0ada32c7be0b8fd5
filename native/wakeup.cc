#include "wakeup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/eventfd.h>
#endif

#include "descriptors.h"
#include "pretend.h"

namespace forkbeard {

namespace {

int OpenPipe(Fd* read, Fd* write) {
  int ends[2];
  if (int error = MakePipe(ends); error < 0) return error;
  *read = Fd(ends[0]);
  *write = Fd(ends[1]);
  return 0;
}

// dup2 keeps the number and replaces what is behind it in one step.
int Replace(const Fd& old, const Fd& fresh) {
#if defined(__linux__)
  return dup3(fresh.get(), old.get(), O_CLOEXEC) < 0 ? -errno : 0;
#else
  if (dup2(fresh.get(), old.get()) < 0) return -errno;
  return fcntl(old.get(), F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
#endif
}

}  // namespace

int Wakeup::Open() {
#if defined(__linux__)
  if (!PretendMissing("eventfd")) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd >= 0) {
      read_ = Fd(fd);
      return 0;
    }
    if (errno != ENOSYS) return -errno;
  }
#endif
  return OpenPipe(&read_, &write_);
}

int Wakeup::Reopen() {
  Wakeup fresh;
  int error = fresh.Open();
  if (error < 0) return error;
  error = Replace(read_, fresh.read_);
  if (error == 0 && write_) error = Replace(write_, fresh.write_);
  return error;
}

int Wakeup::Renew() {
  read_.Release();
  write_.Release();
  return Open();
}

void Wakeup::Signal() const {
  int saved = errno;
  uint64_t one = 1;
  // A full pipe or counter means that a wake-up is pending already.
  ssize_t written = ::write(write_ ? write_.get() : read_.get(), &one, write_ ? 1 : sizeof one);
  (void)written;
  errno = saved;
}

bool Wakeup::Drain() const {
  uint64_t buffer[16];
  ssize_t count;
  do {
    count = ::read(read_.get(), buffer, write_ ? sizeof buffer : sizeof buffer[0]);
  } while (count == static_cast<ssize_t>(sizeof buffer));
  return count > 0 || (count < 0 && errno == EAGAIN);
}

}  // namespace forkbeard
