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
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#if !defined(SYS_pidfd_open)
#define SYS_pidfd_open 434
#endif
#if !defined(P_PIDFD)
#define P_PIDFD 3
#endif

#include "emulation_signals.h"

extern "C" int __real_close(int fd);

namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr time_t kLongestWaitSeconds = 100'000'000;

int64_t ToNanos(const timespec& time) { return time.tv_sec * kNanosPerSecond + time.tv_nsec; }
timespec ToTimespec(int64_t nanos) { return {nanos / kNanosPerSecond, nanos % kNanosPerSecond}; }

int64_t Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return ToNanos(now);
}

// ------------------------------------------------------------------------------------------------ filters,
// queues

enum Side : int { kReadSide, kWriteSide };

struct Knote {
  uint64_t id = 0;
  // ident, filter, udata as asked; flags without those that only say what to do; fflags and data as last
  // asked.
  struct kevent asked = {};
  bool disabled = false;
  bool silent = false;  // never fires: a filter for the direction that this end of a pipe does not have
  int object = -1;      // timerfd, eventfd or pidfd
  dev_t device = 0;     // the file that a descriptor named when the filter was added
  ino_t inode = 0;
  bool connected = false;  // was seen with a peer

  bool OnDescriptor() const { return asked.filter == EVFILT_READ || asked.filter == EVFILT_WRITE; }
  Side side() const { return asked.filter == EVFILT_READ ? kReadSide : kWriteSide; }
  int fd() const { return static_cast<int>(asked.ident); }
};

using Key = std::pair<int16_t, uintptr_t>;

struct Queue {
  uint64_t serial = 0;
  int fd = -1;
  std::array<int, 2> sets = {-1, -1};
  // Of the last timer that went: an alarm that comes and goes shall not show in the number of open descriptors.
  int spare_timer = -1;
  std::map<Key, std::unique_ptr<Knote>> knotes;
  std::unordered_map<uint64_t, Knote*> by_id;
  unsigned turn = 0;
};

// Ids in the outer set; the knotes' own start behind them.
constexpr uint64_t kFirstKnote = 2;

// Never destroyed: descriptors are still closed while the process ends.
auto& queues = *new std::unordered_map<int, std::unique_ptr<Queue>>;
uint64_t last_serial = kFirstKnote;
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

// ------------------------------------------------------------------------------------------------ attaching

// On a BSD only the queue itself has a descriptor. Ours move out of the way, so that a program which closes a
// number and opens another file finds that number free.
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

bool IsDatagram(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
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

uint32_t EpollEvents(const Knote& knote) {
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

void Part(int set, int fd) {
  epoll_event event = {};
  epoll_ctl(set, EPOLL_CTL_DEL, fd, &event);
}

// Puts a filter where it can fire, or evaluates it anew if it is there.
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

// A new set in place of one with an entry that cannot be removed: its number is closed, its file is not.
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

int AttachDescriptor(Knote& knote) {
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

int AttachProcess(Knote& knote) {
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

int SetTimer(const Knote& knote) {
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

int Attach(Queue& queue, Knote& knote) {
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

// ------------------------------------------------------------------------------------------------ changes

uint64_t TakeCount(const Knote& knote) {
  uint64_t count = 0;
  return read(knote.object, &count, sizeof count) == sizeof count ? count : 0;
}

void TouchUser(Knote& knote, const struct kevent& change) {
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

int Touch(Queue& queue, Knote& knote, const struct kevent& change) {
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

int Add(Queue& queue, const struct kevent& change) {
  auto fresh = std::make_unique<Knote>();
  Knote& knote = *fresh;
  knote.id = ++last_serial;
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

// ------------------------------------------------------------------------------------------------ events

int64_t BytesToRead(int fd) {
  if (IsListening(fd)) return 1;  // at least that many connections
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : 0;
}

int64_t RoomToWrite(int fd) {
  int used = 0;
  if (IsKind(fd, S_IFIFO)) {
    int size = fcntl(fd, F_GETPIPE_SZ);
    return size > 0 && ioctl(fd, FIONREAD, &used) == 0 ? size - used : 0;
  }
  int size = 0;
  socklen_t length = sizeof size;
  if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length) < 0 || ioctl(fd, TIOCOUTQ, &used) < 0) return 0;
  return std::max(size - used, 0);
}

bool ShutDownForWriting(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) return false;
  switch (info.tcpi_state) {
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
      return true;
    default:
      return false;
  }
}

// Whether there is something to tell, and what.
bool Evaluate(Knote& knote, uint32_t bits, struct kevent* event) {
  *event = knote.asked;
  event->fflags = 0;
  event->data = 0;
  switch (knote.asked.filter) {
    case EVFILT_READ:
    case EVFILT_WRITE: {
      bool reads = knote.asked.filter == EVFILT_READ;
      int fd = knote.fd();
      bool socket = IsKind(fd, S_IFSOCK);
      // The temporary error of a datagram socket only makes it ready.
      bool failed = bits & EPOLLERR && !(socket && IsDatagram(fd));
      bool end = failed || bits & EPOLLHUP || (reads ? bits & EPOLLRDHUP : socket && ShutDownForWriting(fd));
      event->data = reads ? BytesToRead(fd) : RoomToWrite(fd);
      if (end) event->flags |= EV_EOF;
      if (socket && !knote.connected) knote.connected = HasPeer(fd);
      if (failed && socket) event->fflags = knote.connected ? ECONNRESET : ECONNREFUSED;
      return end || !HasLowWater(knote) || event->data >= knote.asked.data || bits & EPOLLERR;
    }
    case EVFILT_TIMER:
    case EVFILT_SIGNAL:
      event->data = static_cast<int64_t>(TakeCount(knote));
      return event->data > 0;
    case EVFILT_USER:
      event->fflags = knote.asked.fflags;
      event->data = knote.asked.data;
      if (knote.asked.flags & EV_CLEAR) TakeCount(knote);
      return true;
    case EVFILT_PROC: {
      event->flags |= EV_EOF;
      event->fflags = NOTE_EXIT;
      siginfo_t info = {};
      if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(knote.object), &info,
                 WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid != 0) {
        event->data = info.si_code == CLD_EXITED
                          ? W_EXITCODE(info.si_status, 0)
                          : info.si_status | (info.si_code == CLD_DUMPED ? WCOREFLAG : 0);
      }
      return true;
    }
    default:
      return false;
  }
}

// One event of the kernel below: told, or found to be nothing. True if `event` was filled in.
bool Take(Queue& queue, Knote& knote, uint32_t bits, struct kevent* event) {
  if (!Evaluate(knote, bits, event)) return false;
  if (knote.asked.flags & EV_ONESHOT) {
    Drop(queue, knote);
  } else if (knote.asked.flags & EV_DISPATCH) {
    Disarm(queue, knote);
    knote.disabled = true;
  } else if (HasLowWater(knote) && !(knote.asked.flags & EV_CLEAR)) {
    Arm(queue, knote);  // level-triggered again
  }
  return true;
}

int ScanSide(Queue& queue, Side side, struct kevent* events, int room) {
  std::vector<epoll_event> ready(room);
  int count = epoll_wait(queue.sets[side], ready.data(), room, 0);
  int told = 0;
  bool ghosts = false;
  for (int i = 0; i < count; i++) {
    auto place = queue.by_id.find(ready[i].data.u64);
    if (place == queue.by_id.end()) {
      ghosts = true;
      continue;
    }
    Knote& knote = *place->second;
    if (!NamesTheSameFile(knote)) {
      Forget(queue, knote);
      ghosts = true;
      continue;
    }
    if (Take(queue, knote, ready[i].events, &events[told])) told++;
  }
  if (ghosts) RebuildSet(queue, side);
  return told;
}

int Scan(Queue& queue, struct kevent* events, int room) {
  std::vector<epoll_event> ready(queue.knotes.size() + 2);
  int count = epoll_wait(queue.fd, ready.data(), static_cast<int>(ready.size()), 0);
  int told = 0;
  // Another one is the first each time: when not all fit, nobody is left out for ever.
  queue.turn++;
  for (int i = 0; i < count && told < room; i++) {
    const epoll_event& event = ready[(i + queue.turn) % count];
    if (event.data.u64 < kFirstKnote) {
      told += ScanSide(queue, static_cast<Side>(event.data.u64), events + told, room - told);
      continue;
    }
    auto place = queue.by_id.find(event.data.u64);
    if (place != queue.by_id.end() && Take(queue, *place->second, event.events, &events[told])) told++;
  }
  return told;
}

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
  queue->serial = ++last_serial;
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
