// kqueue for tests on Linux, answering as the BSDs do (FreeBSD where they differ). Linked into a test build
// of the addon and into the native tests beside it; never into what is shipped. It proves the logic of
// kqueue.cc and nothing about a BSD kernel.
//
// A kqueue is an epoll set, so any other loop can watch its descriptor. In it are two more epoll sets, one
// for the read filters and one for the write filters (an epoll set takes a descriptor only once), and a
// timerfd, pidfd or eventfd for each filter of another kind. Whoever links this passes `--wrap=close` to the
// linker, for on a BSD close(2) takes a descriptor's filters along. A descriptor that was closed elsewhere
// (by Node itself) is recognised by its inode when it is next looked at.
//
// What differs from a BSD:
// - Filters on regular files and directories are refused (EOPNOTSUPP).
// - The pending error of a socket (fflags of EV_EOF) cannot be looked at on Linux without taking it away from
// the
//   program, so it is inferred: ECONNREFUSED before a connection, ECONNRESET after.
// - A signal counts when it is delivered, not when it is sent: not while it is blocked, and Linux merges what
// is
//   pending.
// - NOTE_EXIT tells the status of children only; NOTE_FORK and NOTE_EXEC are refused (EOPNOTSUPP).
// - A socket that was shut down for writing has EV_EOF on its write filter only if it is a TCP socket.
// - A stream socket that was never connected is at its end, as epoll sees it.
#include "emulation.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/event.h>

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <utility>

#include "emulation_signals.h"

using namespace emulation;

namespace {

constexpr time_t kLongestWaitSeconds = 100'000'000;

// Never destroyed: descriptors are still closed while the process ends.
auto& queues = *new std::unordered_map<int, std::unique_ptr<Queue>>;
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

// kevent(2) may be called from signal handlers, so nobody is interrupted while holding the lock.
class Lock {
 public:
  Lock() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask_);
    pthread_mutex_lock(&mutex);
  }
  ~Lock() {
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  sigset_t mask_;
};

Queue* Find(int fd) {
  auto place = queues.find(fd);
  return place == queues.end() ? nullptr : place->second.get();
}

// Closes what a queue is made of, its own number excepted.
void Dissolve(Queue& queue) {
  while (!queue.knotes.empty()) Forget(queue, *queue.knotes.begin()->second);
  for (int fd : {queue.sets[kReadSide], queue.sets[kWriteSide], queue.spare_timer}) {
    if (fd >= 0) __real_close(fd);
  }
}

// ------------------------------------------------------------------------------------------------ fork

sigset_t mask_before_fork;

void BeforeFork() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &mask_before_fork);
  pthread_mutex_lock(&mutex);
}

void AfterFork() {
  pthread_mutex_unlock(&mutex);
  pthread_sigmask(SIG_SETMASK, &mask_before_fork, nullptr);
}

// A kqueue is not inherited: its number is free in the child.
void InChild() {
  for (auto& [fd, queue] : queues) {
    Dissolve(*queue);
    __real_close(fd);
  }
  queues.clear();
  AfterFork();
}

const int registered = pthread_atfork(BeforeFork, AfterFork, InChild);

}  // namespace

extern "C" {

int kqueue(void) {
  (void)registered;
  Lock lock;
  auto queue = std::make_unique<Queue>();
  queue->serial = NextId();
  queue->fd = epoll_create1(0);
  if (queue->fd < 0) return -1;
  for (Side side : {kReadSide, kWriteSide}) {
    queue->sets[side] = Hidden(epoll_create1(EPOLL_CLOEXEC));
    if (queue->sets[side] < 0 || Join(queue->fd, queue->sets[side], EPOLLIN, side) != 0) {
      int error = errno;
      Dissolve(*queue);
      __real_close(queue->fd);
      errno = error;
      return -1;
    }
  }
  int fd = queue->fd;
  queues[fd] = std::move(queue);
  return fd;
}

int kevent(int fd, const struct kevent* changes, int change_count, struct kevent* events, int event_count,
           const struct timespec* timeout) {
  int64_t left = -1;
  if (timeout != nullptr) {
    if (timeout->tv_sec < 0 || timeout->tv_sec > kLongestWaitSeconds || timeout->tv_nsec < 0 ||
        timeout->tv_nsec >= kNanosPerSecond) {
      errno = EINVAL;
      return -1;
    }
    left = ToNanos(*timeout);
  }
  uint64_t serial;
  {
    Lock lock;
    Queue* queue = Find(fd);
    if (queue == nullptr) {
      errno = EBADF;
      return -1;
    }
    serial = queue->serial;
    int answers = 0;
    for (int i = 0; i < change_count; i++) {
      struct kevent change = changes[i];
      if (change.filter == 0) continue;
      change.flags &= ~EV_SYSFLAGS;
      int error = Change(*queue, change);
      if (error == 0 && !(change.flags & EV_RECEIPT)) continue;
      if (answers == event_count) {
        errno = error;
        return error == 0 ? 0 : -1;
      }
      change.flags = EV_ERROR;
      change.data = error;
      events[answers++] = change;
    }
    if (answers > 0 || event_count == 0) return answers;
  }
  int64_t deadline = left > 0 ? Now(CLOCK_MONOTONIC) + left : 0;
  while (true) {
    {
      Lock lock;
      Queue* queue = Find(fd);
      if (queue == nullptr || queue->serial != serial) {
        errno = EBADF;
        return -1;
      }
      KeepSignals();
      int told = Scan(*queue, events, event_count);
      if (told > 0) return told;
    }
    if (left > 0) left = std::max<int64_t>(deadline - Now(CLOCK_MONOTONIC), 0);
    if (left == 0) return 0;
    timespec rest = ToTimespec(std::max<int64_t>(left, 0));
    pollfd state = {fd, POLLIN, 0};
    if (ppoll(&state, 1, left < 0 ? nullptr : &rest, nullptr) < 0) return -1;
  }
}

int __wrap_close(int fd) {
  Lock lock;
  auto place = queues.find(fd);
  if (place != queues.end()) {
    Dissolve(*place->second);
    queues.erase(place);
  }
  for (auto& [number, queue] : queues) {
    for (int16_t filter : {EVFILT_READ, EVFILT_WRITE}) {
      auto knote = queue->knotes.find(Key(filter, fd));
      if (knote != queue->knotes.end()) Drop(*queue, *knote->second);
    }
  }
  return __real_close(fd);
}

}  // extern "C"
