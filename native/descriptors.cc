// Close-on-exec and non-blocking descriptors, and the fallbacks for kernels without the atomic calls. See descriptors.h.
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "fd.h"
#include "pretend.h"

#if !defined(__APPLE__)
#define FORKBEARD_ATOMIC_FLAGS 1
#endif

namespace forkbeard {
namespace {

// For descriptors that came without flags. Closes what it cannot prepare.
int Prepare(int fd) {
  Fd owner(fd);
  if (int error = SetCloseOnExec(fd, true); error < 0) return error;
  if (int error = SetNonBlocking(fd, true); error < 0) return error;
#if defined(SO_NOSIGPIPE)
  // Where there is no MSG_NOSIGNAL the socket itself is told. Pipes refuse it, and so do sockets that the peer has
  // already reset: neither is a reason to fail.
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  return owner.Release();
}

int PreparePair(int pair[2]) {
  Fd second(pair[1]);
  if (int first = Prepare(pair[0]); first < 0) return first;
  if (int error = Prepare(second.Release()); error < 0) {
    ::close(pair[0]);
    return error;
  }
  return 0;
}

int PlainAccept(int listener) {
  int fd;
  do {
    fd = accept(listener, nullptr, nullptr);
  } while (fd < 0 && errno == EINTR);
  return fd < 0 ? -errno : Prepare(fd);
}

}  // namespace

int MakeSocket(int domain, int type) {
#if defined(FORKBEARD_ATOMIC_FLAGS)
  static const bool missing = PretendMissing("sock_cloexec");
  if (!missing) {
    int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    // A kernel that does not know the flags takes them for a part of the type: EINVAL.
    if (fd >= 0 || errno != EINVAL) return fd < 0 ? -errno : fd;
  }
#endif
  int fd = socket(domain, type, 0);
  return fd < 0 ? -errno : Prepare(fd);
}

int MakeSocketPair(int type, int out[2]) {
#if defined(FORKBEARD_ATOMIC_FLAGS)
  static const bool missing = PretendMissing("sock_cloexec");
  if (!missing) {
    if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out) == 0) return 0;
    if (errno != EINVAL) return -errno;
  }
#endif
  if (socketpair(AF_UNIX, type, 0, out) < 0) return -errno;
  return PreparePair(out);
}

int MakePipe(int out[2]) {
#if defined(FORKBEARD_ATOMIC_FLAGS)
  static const bool missing = PretendMissing("pipe2");
  if (!missing) {
    if (pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0) return 0;
    if (errno != ENOSYS) return -errno;
  }
#endif
  if (pipe(out) < 0) return -errno;
  return PreparePair(out);
}

int AcceptConnection(int listener) {
#if defined(FORKBEARD_ATOMIC_FLAGS)
  static const bool missing = PretendMissing("accept4");
  if (!missing) {
    int fd;
    do {
      fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0 || errno != ENOSYS) return fd < 0 ? -errno : fd;
  }
#endif
  return PlainAccept(listener);
}

int Duplicate(int fd, int at_least) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, at_least);
  return copy < 0 ? -errno : copy;
}

int SetNonBlocking(int fd, bool on) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0) return -errno;
  return 0;
}

int SetCloseOnExec(int fd, bool on) {
  int flags = fcntl(fd, F_GETFD);
  if (flags < 0) return -errno;
  int wanted = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
  if (wanted != flags && fcntl(fd, F_SETFD, wanted) < 0) return -errno;
  return 0;
}

}  // namespace forkbeard
