// The events of the emulation: what the kernel below says of a filter, and what a BSD would say instead.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <vector>

#include "emulation.h"

#if !defined(P_PIDFD)
#define P_PIDFD 3
#endif

namespace emulation {

static bool IsDatagram(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

static int64_t BytesToRead(int fd) {
  if (IsListening(fd)) return 1;  // at least that many connections
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : 0;
}

static int64_t RoomToWrite(int fd) {
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

static bool ShutDownForWriting(int fd) {
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
static bool Evaluate(Knote& knote, uint32_t bits, struct kevent* event) {
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
static bool Take(Queue& queue, Knote& knote, uint32_t bits, struct kevent* event) {
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

static int ScanSide(Queue& queue, Side side, struct kevent* events, int room) {
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

}  // namespace emulation
