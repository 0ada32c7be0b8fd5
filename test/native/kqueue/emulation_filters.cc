// The filters of the emulation: how each comes to be what the kernel below can watch, how it is changed, and how it goes.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "emulation.h"
#include "emulation_signals.h"

#if !defined(SYS_pidfd_open)
#define SYS_pidfd_open 434
#endif

namespace emulation {

int Hidden(int fd) {
  if (fd < 0) return fd;
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(std::min<rlim_t>(limit.rlim_cur / 2, 8192)));
  if (moved < 0) return fd;
  __real_close(fd);
  return moved;
}

bool IsKind(int fd, mode_t kind) {
  struct stat file;
  return fstat(fd, &file) == 0 && (file.st_mode & S_IFMT) == kind;
}

bool HasPeer(int fd) {
  sockaddr_storage peer;
  socklen_t size = sizeof peer;
  return getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

bool IsListening(int fd) {
  int listening = 0;
  socklen_t size = sizeof listening;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
}

bool HasLowWater(const Knote& knote) {
  return knote.OnDescriptor() && knote.asked.fflags & NOTE_LOWAT && IsKind(knote.fd(), S_IFSOCK) &&
         !IsListening(knote.fd());
}

static uint32_t EpollEvents(const Knote& knote) {
  uint32_t events = knote.side() == kReadSide ? EPOLLIN | EPOLLRDHUP : EPOLLOUT;
  // Data below a low-water mark would be told over and over.
  if (knote.asked.flags & EV_CLEAR || HasLowWater(knote)) events |= EPOLLET;
  return events;
}

int Join(int set, int fd, uint32_t events, uint64_t id) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0) return 0;
  if (errno != EEXIST) return errno;
  // Changed, or left over from a filter that went with a close.
  return epoll_ctl(set, EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : errno;
}

static void Part(int set, int fd) {
  epoll_event event = {};
  epoll_ctl(set, EPOLL_CTL_DEL, fd, &event);
}

int Arm(Queue& queue, Knote& knote) {
  if (knote.disabled || knote.silent) return 0;
  if (!knote.OnDescriptor()) return Join(queue.fd, knote.object, EPOLLIN, knote.id);
  int error = Join(queue.sets[knote.side()], knote.fd(), EpollEvents(knote), knote.id);
  return error == EPERM ? ENODEV : error;
}

void Disarm(Queue& queue, const Knote& knote) {
  if (knote.OnDescriptor()) {
    Part(queue.sets[knote.side()], knote.fd());
  } else {
    Part(queue.fd, knote.object);
  }
}

bool NamesTheSameFile(const Knote& knote) {
  struct stat file;
  return fstat(knote.fd(), &file) == 0 && file.st_dev == knote.device && file.st_ino == knote.inode;
}

void Forget(Queue& queue, Knote& knote) {
  if (knote.asked.filter == EVFILT_SIGNAL) UnwatchSignal(static_cast<int>(knote.asked.ident), knote.object);
  if (knote.asked.filter == EVFILT_TIMER && queue.spare_timer < 0) std::swap(queue.spare_timer, knote.object);
  if (knote.object >= 0) __real_close(knote.object);
  queue.by_id.erase(knote.id);
  queue.knotes.erase(Key(knote.asked.filter, knote.asked.ident));
}

void Drop(Queue& queue, Knote& knote) {
  Disarm(queue, knote);
  Forget(queue, knote);
}

void RebuildSet(Queue& queue, Side side) {
  int fresh = Hidden(epoll_create1(EPOLL_CLOEXEC));
  if (fresh < 0) return;
  Part(queue.fd, queue.sets[side]);
  __real_close(queue.sets[side]);
  queue.sets[side] = fresh;
  Join(queue.fd, fresh, EPOLLIN, side);
  for (auto& [key, knote] : queue.knotes) {
    if (knote->OnDescriptor() && knote->side() == side) Arm(queue, *knote);
  }
}

static int AttachDescriptor(Knote& knote) {
  struct stat file;
  if (fstat(knote.fd(), &file) < 0) return errno;
  knote.device = file.st_dev;
  knote.inode = file.st_ino;
  if (S_ISREG(file.st_mode) || S_ISDIR(file.st_mode)) return EOPNOTSUPP;
  if (S_ISSOCK(file.st_mode)) knote.connected = HasPeer(knote.fd());
  if (!S_ISFIFO(file.st_mode)) return 0;
  int access = fcntl(knote.fd(), F_GETFL) & O_ACCMODE;
  knote.silent = access == (knote.side() == kReadSide ? O_WRONLY : O_RDONLY);
  if (knote.side() == kReadSide || knote.silent) return 0;
  pollfd state = {knote.fd(), POLLOUT, 0};
  return poll(&state, 1, 0) == 1 && state.revents & POLLERR ? EPIPE : 0;
}

static int AttachProcess(Knote& knote) {
  if (knote.asked.fflags != NOTE_EXIT) return EOPNOTSUPP;
  int fd = static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(knote.asked.ident), 0));
  if (fd < 0) return errno == EINVAL ? ESRCH : errno;
  // A zombie is no process any more.
  pollfd state = {fd, POLLIN, 0};
  if (poll(&state, 1, 0) != 0) {
    __real_close(fd);
    return ESRCH;
  }
  knote.object = Hidden(fd);
  knote.asked.flags |= EV_ONESHOT | EV_CLEAR;
  return 0;
}

static int SetTimer(const Knote& knote) {
  int64_t unit = 1'000'000;
  switch (knote.asked.fflags & ~NOTE_ABSTIME) {
    case 0:
    case NOTE_MSECONDS:
      break;
    case NOTE_SECONDS:
      unit = kNanosPerSecond;
      break;
    case NOTE_USECONDS:
      unit = 1000;
      break;
    case NOTE_NSECONDS:
      unit = 1;
      break;
    default:
      return EINVAL;
  }
  int64_t nanos;
  if (knote.asked.data < 0 || __builtin_mul_overflow(knote.asked.data, unit, &nanos)) return EINVAL;
  bool absolute = knote.asked.fflags & NOTE_ABSTIME;
  if (absolute) nanos -= Now(CLOCK_REALTIME);
  itimerspec when = {};
  when.it_value = ToTimespec(std::max<int64_t>(nanos, 1));
  if (!(knote.asked.flags & EV_ONESHOT) && !absolute) when.it_interval = when.it_value;
  return timerfd_settime(knote.object, 0, &when, nullptr) < 0 ? errno : 0;
}

static int Attach(Queue& queue, Knote& knote) {
  switch (knote.asked.filter) {
    case EVFILT_READ:
    case EVFILT_WRITE:
      return AttachDescriptor(knote);
    case EVFILT_TIMER:
      knote.asked.flags |= EV_CLEAR;
      knote.object = std::exchange(queue.spare_timer, -1);
      if (knote.object < 0)
        knote.object = Hidden(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
      return knote.object < 0 ? errno : SetTimer(knote);
    case EVFILT_USER:
      // NOTE_TRIGGER is not looked at here.
      knote.asked.fflags &= NOTE_FFLAGSMASK;
      knote.object = Hidden(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      return knote.object < 0 ? errno : 0;
    case EVFILT_PROC:
      return AttachProcess(knote);
    case EVFILT_SIGNAL: {
      knote.asked.flags |= EV_CLEAR;
      knote.object = Hidden(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      if (knote.object < 0) return errno;
      return WatchSignal(static_cast<int>(knote.asked.ident), knote.object);
    }
    default:
      return EINVAL;
  }
}

uint64_t TakeCount(const Knote& knote) {
  uint64_t count = 0;
  return read(knote.object, &count, sizeof count) == sizeof count ? count : 0;
}

static void TouchUser(Knote& knote, const struct kevent& change) {
  if (change.fflags & NOTE_TRIGGER) {
    uint64_t one = 1;
    ssize_t written = write(knote.object, &one, sizeof one);
    (void)written;
  }
  uint32_t flags = change.fflags & NOTE_FFLAGSMASK & ~NOTE_TRIGGER;
  switch (change.fflags & NOTE_FFCTRLMASK) {
    case NOTE_FFAND:
      knote.asked.fflags &= flags;
      break;
    case NOTE_FFOR:
      knote.asked.fflags |= flags;
      break;
    case NOTE_FFCOPY:
      knote.asked.fflags = flags;
      break;
    default:
      break;
  }
  knote.asked.data = change.data;
  if (change.flags & EV_CLEAR) TakeCount(knote);
}

static int Touch(Queue& queue, Knote& knote, const struct kevent& change) {
  // Neither EV_CLEAR nor EV_ONESHOT nor EV_DISPATCH can be changed afterwards.
  knote.asked.udata = change.udata;
  if (change.flags & EV_DISABLE) {
    Disarm(queue, knote);
    knote.disabled = true;
  }
  if (change.flags & EV_ENABLE) knote.disabled = false;
  if (knote.asked.filter == EVFILT_USER) {
    TouchUser(knote, change);
  } else if (knote.asked.filter != EVFILT_TIMER) {
    knote.asked.fflags = change.fflags;
    knote.asked.data = change.data;
  } else if (change.flags & EV_ADD) {
    knote.asked.fflags = change.fflags;
    knote.asked.data = change.data;
    TakeCount(knote);
    int error = SetTimer(knote);
    if (error != 0) return error;
  }
  return Arm(queue, knote);
}

static int Add(Queue& queue, const struct kevent& change) {
  auto fresh = std::make_unique<Knote>();
  Knote& knote = *fresh;
  knote.id = NextId();
  knote.asked = change;
  knote.asked.flags &= ~(EV_ADD | EV_DELETE | EV_ENABLE | EV_DISABLE | EV_RECEIPT);
  knote.disabled = change.flags & EV_DISABLE;
  int error = Attach(queue, knote);
  if (error == 0) error = Arm(queue, knote);
  if (error != 0) {
    if (knote.asked.filter == EVFILT_SIGNAL) UnwatchSignal(static_cast<int>(change.ident), knote.object);
    if (knote.object >= 0) __real_close(knote.object);
    return error;
  }
  queue.by_id.emplace(knote.id, &knote);
  queue.knotes.emplace(Key(change.filter, change.ident), std::move(fresh));
  return 0;
}

int Change(Queue& queue, const struct kevent& change) {
  bool on_descriptor = change.filter == EVFILT_READ || change.filter == EVFILT_WRITE;
  if (on_descriptor) {
    if (change.ident > INT32_MAX || fcntl(static_cast<int>(change.ident), F_GETFD) < 0) return EBADF;
    if (static_cast<int>(change.ident) == queue.fd) return EINVAL;
  }
  auto place = queue.knotes.find(Key(change.filter, change.ident));
  if (place != queue.knotes.end() && on_descriptor && !NamesTheSameFile(*place->second)) {
    Drop(queue, *place->second);  // closed since, and opened again as something else
    place = queue.knotes.end();
  }
  if (place == queue.knotes.end()) return change.flags & EV_ADD ? Add(queue, change) : ENOENT;
  if (!(change.flags & EV_DELETE)) return Touch(queue, *place->second, change);
  Drop(queue, *place->second);
  return 0;
}

}  // namespace emulation
