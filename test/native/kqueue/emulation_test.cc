// What the emulation answers, against what the BSDs' manual pages and sources say.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "watched.h"

namespace {

using check::Empty;
using check::Fill;
using check::Pair;
using check::Pipe;
using check::Tcp;

constexpr int64_t kMilli = 1'000'000;

struct kevent Make(uintptr_t ident, int filter, int flags, uint32_t fflags = 0, int64_t data = 0,
                   uintptr_t udata = 0) {
  struct kevent change;
  EV_SET(&change, ident, filter, flags, fflags, data, reinterpret_cast<void*>(udata));
  return change;
}

// 0 or the errno of one change.
int Change(int queue, struct kevent change) {
  return kevent(queue, &change, 1, nullptr, 0, nullptr) < 0 ? errno : 0;
}
int Change(int queue, uintptr_t ident, int filter, int flags, uint32_t fflags = 0, int64_t data = 0,
           uintptr_t udata = 0) {
  return Change(queue, Make(ident, filter, flags, fflags, data, udata));
}

std::vector<struct kevent> Wait(int queue, int64_t nanos, int room = 16) {
  std::vector<struct kevent> events(room);
  timespec time = {nanos / 1'000'000'000, nanos % 1'000'000'000};
  int count = kevent(queue, nullptr, 0, events.data(), room, nanos < 0 ? nullptr : &time);
  CHECK(count >= 0);
  events.resize(std::max(count, 0));
  return events;
}

// One that is there already.
struct kevent Only(int queue) {
  auto events = Wait(queue, 0);
  CHECK(events.size() == 1);
  return events.empty() ? Make(0, 0, 0) : events[0];
}
// One that will come.
struct kevent Next(int queue) {
  auto events = Wait(queue, 10'000 * kMilli);
  CHECK(events.size() == 1);
  return events.empty() ? Make(0, 0, 0) : events[0];
}
bool Quiet(int queue) { return Wait(queue, 0).empty(); }

void Ignore(int) {}

long CountDescriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                       std::filesystem::directory_iterator());
}

// ------------------------------------------------------------------------------------------------ flags

TEST("a filter is told again and again until it is served") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD, 0, 0, 7) == 0);
  CHECK(Quiet(queue));
  Fill(pipe.write(), "four");
  for (int round = 0; round < 3; round++) {
    struct kevent event = Only(queue);
    CHECK(event.ident == static_cast<uintptr_t>(pipe.read()) && event.filter == EVFILT_READ);
    CHECK(event.data == 4 && event.fflags == 0 && event.flags == 0);
    CHECK(event.udata == reinterpret_cast<void*>(7));
  }
  Empty(pipe.read());
  CHECK(Quiet(queue));
}

TEST("EV_CLEAR tells only what is new") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD | EV_CLEAR) == 0);
  Fill(pipe.write(), "a");
  CHECK(Only(queue).data == 1);
  CHECK(Quiet(queue));
  Fill(pipe.write(), "b");
  CHECK(Only(queue).data == 2);
  CHECK(Quiet(queue));
}

TEST("adding again takes new user data and looks again, but changes no EV_CLEAR") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, 1) == 0);
  Fill(pipe.write(), "a");
  CHECK(Only(queue).udata == reinterpret_cast<void*>(1));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD, 0, 0, 2) == 0);
  CHECK(Only(queue).udata == reinterpret_cast<void*>(2));
  CHECK(Quiet(queue));
}

TEST("EV_ONESHOT deletes the filter once it was told") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD | EV_ONESHOT) == 0);
  Fill(pipe.write(), "a");
  CHECK(Only(queue).flags & EV_ONESHOT);
  CHECK(Quiet(queue));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_DELETE) == ENOENT);
}

TEST("EV_DISPATCH disables the filter until EV_ENABLE") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD | EV_DISPATCH) == 0);
  Fill(pipe.write(), "a");
  CHECK(Only(queue).data == 1);
  CHECK(Quiet(queue));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ENABLE) == 0);
  CHECK(Only(queue).data == 1);
  CHECK(Quiet(queue));
}

TEST("a disabled filter is silent, and tells what it missed when it is enabled") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD | EV_DISABLE) == 0);
  Fill(pipe.write(), "a");
  CHECK(Quiet(queue));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ENABLE) == 0);
  CHECK(Only(queue).data == 1);
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_DISABLE) == 0);
  CHECK(Quiet(queue));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_DELETE) == 0);
}

TEST("EV_RECEIPT answers every change, fetches no event and does not wait") {
  Pipe pipe;
  int queue = kqueue();
  Fill(pipe.write(), "a");
  struct kevent changes[] = {
      Make(pipe.read(), EVFILT_READ, EV_ADD | EV_RECEIPT),
      Make(pipe.write(), EVFILT_WRITE, EV_DELETE | EV_RECEIPT),
      Make(pipe.write(), EVFILT_WRITE, EV_ADD | EV_RECEIPT),
  };
  struct kevent receipts[3];
  CHECK(kevent(queue, changes, 3, receipts, 3, nullptr) == 3);
  CHECK(receipts[0].flags == EV_ERROR && receipts[0].data == 0 && receipts[0].ident == changes[0].ident);
  CHECK(receipts[1].flags == EV_ERROR && receipts[1].data == ENOENT);
  CHECK(receipts[2].flags == EV_ERROR && receipts[2].data == 0);
  CHECK(Wait(queue, 0).size() == 2);
}

TEST("an error takes the place of an event, and changes after it are made") {
  Pipe pipe;
  int queue = kqueue();
  struct kevent changes[] = {Make(pipe.read(), EVFILT_READ, EV_DELETE),
                             Make(pipe.write(), EVFILT_WRITE, EV_ADD)};
  struct kevent events[2];
  CHECK(kevent(queue, changes, 2, events, 2, nullptr) == 1);
  CHECK(events[0].flags == EV_ERROR && events[0].data == ENOENT);
  CHECK(Only(queue).filter == EVFILT_WRITE);
}

TEST("an error without room for it is the call's own, and changes after it are not made") {
  Pipe pipe;
  int queue = kqueue();
  struct kevent changes[] = {Make(pipe.read(), EVFILT_READ, EV_DELETE),
                             Make(pipe.write(), EVFILT_WRITE, EV_ADD)};
  errno = 0;
  CHECK(kevent(queue, changes, 2, nullptr, 0, nullptr) == -1 && errno == ENOENT);
  CHECK(Quiet(queue));
}

TEST("bad descriptors, filters and queues are refused") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, 9999, EVFILT_READ, EV_ADD) == EBADF);
  CHECK(Change(queue, 9999, EVFILT_WRITE, EV_DELETE) == EBADF);
  CHECK(Change(queue, UINTPTR_MAX, EVFILT_READ, EV_ADD) == EBADF);
  CHECK(Change(queue, queue, EVFILT_READ, EV_ADD) == EINVAL);
  CHECK(Change(queue, 1, -99, EV_ADD) == EINVAL);
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ENABLE) == ENOENT);
  CHECK(Change(pipe.read(), pipe.read(), EVFILT_READ, EV_ADD) == EBADF);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK(Change(queue, null, EVFILT_READ, EV_ADD) == ENODEV);
}

// ------------------------------------------------------------------------------------------------
// descriptors

TEST("the end of a pipe comes with the bytes before it") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  Fill(pipe.write(), "abc");
  close(pipe.write());
  struct kevent event = Only(queue);
  CHECK(event.flags & EV_EOF && event.data == 3 && event.fflags == 0);
  Empty(pipe.read());
  event = Only(queue);
  CHECK(event.flags & EV_EOF && event.data == 0);
}

TEST("a pipe that loses its reader is writable, with EV_EOF") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.write(), EVFILT_WRITE, EV_ADD) == 0);
  struct kevent event = Only(queue);
  CHECK(event.filter == EVFILT_WRITE && !(event.flags & EV_EOF) && event.data > 4096);
  close(pipe.read());
  CHECK(Only(queue).flags & EV_EOF);
}

TEST("a pipe without a reader takes no write filter: EPIPE") {
  Pipe pipe;
  int queue = kqueue();
  close(pipe.read());
  CHECK(Change(queue, pipe.write(), EVFILT_WRITE, EV_ADD) == EPIPE);
  CHECK(Change(queue, pipe.write(), EVFILT_WRITE, EV_DELETE) == ENOENT);
}

TEST("a filter for the direction that an end of a pipe lacks is taken and never fires") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.write(), EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(queue, pipe.read(), EVFILT_WRITE, EV_ADD) == 0);
  close(pipe.read());
  CHECK(Quiet(queue));
}

TEST("a half-closed socket has EV_EOF on its read filter and stays writable") {
  Pair pair;
  int queue = kqueue();
  CHECK(Change(queue, pair.ends[0], EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(queue, pair.ends[0], EVFILT_WRITE, EV_ADD) == 0);
  Fill(pair.ends[1], "last");
  CHECK(shutdown(pair.ends[1], SHUT_WR) == 0);
  auto events = Wait(queue, 0);
  CHECK(events.size() == 2);
  for (const struct kevent& event : events) {
    CHECK(((event.flags & EV_EOF) != 0) == (event.filter == EVFILT_READ));
    if (event.filter == EVFILT_READ) CHECK(event.data == 4);
  }
}

TEST("a TCP socket that was shut down for writing has EV_EOF on its write filter only") {
  Tcp tcp;
  int queue = kqueue();
  CHECK(Change(queue, tcp.client, EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(queue, tcp.client, EVFILT_WRITE, EV_ADD) == 0);
  CHECK(shutdown(tcp.client, SHUT_WR) == 0);
  struct kevent event = Only(queue);
  CHECK(event.filter == EVFILT_WRITE && event.flags & EV_EOF && event.fflags == 0);
}

TEST("the socket's error is in fflags, and stays with the socket") {
  // A port that nobody listens on: bound here, and closed.
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(taken, reinterpret_cast<sockaddr*>(&address), size) == 0);
  CHECK(getsockname(taken, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int queue = kqueue();
  CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), size) == -1);
  CHECK(Change(queue, client, EVFILT_WRITE, EV_ADD) == 0);
  struct kevent event = Next(queue);
  CHECK(event.flags & EV_EOF && event.fflags == ECONNREFUSED);
  int error = 0;
  socklen_t length = sizeof error;
  CHECK(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == ECONNREFUSED);

  Tcp tcp;
  CHECK(Change(queue, client, EVFILT_WRITE, EV_DELETE) == 0);
  CHECK(Change(queue, tcp.client, EVFILT_READ, EV_ADD) == 0);
  linger abort = {1, 0};
  CHECK(setsockopt(tcp.server, SOL_SOCKET, SO_LINGER, &abort, sizeof abort) == 0);
  close(tcp.server);
  event = Next(queue);
  CHECK(event.flags & EV_EOF && event.fflags == ECONNRESET);
  char byte;
  CHECK(read(tcp.client, &byte, 1) == -1 && errno == ECONNRESET);
}

TEST("a datagram socket with a pending error is readable, without EV_EOF") {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(bind(peer, reinterpret_cast<sockaddr*>(&address), size) == 0);
  CHECK(getsockname(peer, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), size) == 0);
  close(peer);
  int queue = kqueue();
  CHECK(Change(queue, client, EVFILT_READ, EV_ADD) == 0);
  CHECK(send(client, "x", 1, 0) == 1);
  struct kevent event = Next(queue);
  CHECK(event.filter == EVFILT_READ && !(event.flags & EV_EOF));
}

TEST("a listening socket is readable when a connection waits") {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener, 8) == 0);
  CHECK(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  int queue = kqueue();
  CHECK(Change(queue, listener, EVFILT_READ, EV_ADD) == 0);
  CHECK(Quiet(queue));
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), size) == 0);
  struct kevent event = Next(queue);
  CHECK(event.data == 1 && !(event.flags & EV_EOF));
}

TEST("NOTE_LOWAT holds a socket back until there is as much, or the end") {
  Pair pair;
  int queue = kqueue();
  CHECK(Change(queue, pair.ends[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 3) == 0);
  Fill(pair.ends[1], "ab");
  CHECK(Quiet(queue));
  Fill(pair.ends[1], "c");
  CHECK(Only(queue).data == 3);
  CHECK(Only(queue).data == 3);
  Empty(pair.ends[0]);
  CHECK(Quiet(queue));
  Fill(pair.ends[1], "d");
  CHECK(Quiet(queue));
  close(pair.ends[1]);
  struct kevent event = Only(queue);
  CHECK(event.flags & EV_EOF && event.data == 1);
}

TEST("the two directions of a descriptor are two filters") {
  Pair pair;
  int queue = kqueue();
  CHECK(Change(queue, pair.ends[0], EVFILT_READ, EV_ADD | EV_CLEAR) == 0);
  CHECK(Change(queue, pair.ends[0], EVFILT_WRITE, EV_ADD) == 0);
  Fill(pair.ends[1], "a");
  CHECK(Wait(queue, 0).size() == 2);
  CHECK(Only(queue).filter == EVFILT_WRITE);
  CHECK(Change(queue, pair.ends[0], EVFILT_WRITE, EV_DELETE) == 0);
  CHECK(Quiet(queue));
  Fill(pair.ends[1], "b");
  CHECK(Only(queue).filter == EVFILT_READ);
}

TEST("two queues know a descriptor each for itself") {
  Pipe pipe;
  int one = kqueue();
  int two = kqueue();
  CHECK(Change(one, pipe.read(), EVFILT_READ, EV_ADD | EV_CLEAR) == 0);
  CHECK(Change(two, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  Fill(pipe.write(), "a");
  CHECK(Only(one).data == 1);
  CHECK(Quiet(one));
  CHECK(Only(two).data == 1);
  CHECK(Only(two).data == 1);
  close(one);
  CHECK(Only(two).data == 1);
  CHECK(Change(one, pipe.read(), EVFILT_READ, EV_ADD) == EBADF);
}

TEST("closing a descriptor takes its filters along, also where a duplicate keeps the file") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  int copy = dup(pipe.read());
  Fill(pipe.write(), "a");
  close(pipe.read());
  CHECK(Quiet(queue));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_DELETE) == EBADF);
  CHECK(dup2(copy, pipe.read()) == pipe.read());
  CHECK(Quiet(queue));
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_DELETE) == ENOENT);
}

TEST("a descriptor that was closed out of sight is found out, and its number serves another file") {
  Pipe pipe;
  Pipe other;
  int queue = kqueue();
  int number = pipe.read();
  CHECK(Change(queue, number, EVFILT_READ, EV_ADD, 0, 0, 1) == 0);
  CHECK(Change(queue, other.read(), EVFILT_READ, EV_ADD, 0, 0, 2) == 0);
  int copy = dup(number);
  Fill(pipe.write(), "a");
  syscall(SYS_close, number);
  CHECK(Quiet(queue));
  CHECK(Quiet(queue));
  CHECK(!check::IsReadable(queue));
  Fill(other.write(), "b");
  CHECK(Only(queue).udata == reinterpret_cast<void*>(2));
  CHECK(dup2(other.read(), number) == number);
  CHECK(Change(queue, number, EVFILT_READ, EV_ADD, 0, 0, 3) == 0);
  CHECK(Wait(queue, 0).size() == 2);
  (void)copy;
}

TEST("an event that no longer holds is not told") {
  Pipe pipe;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  Fill(pipe.write(), "a");
  CHECK(check::IsReadable(queue));
  Empty(pipe.read());
  CHECK(Quiet(queue));
}

TEST("more ready than fit: the rest comes next, and nobody is left out") {
  constexpr int kPairs = 60;
  int queue = kqueue();
  std::vector<Pair> pairs(kPairs);
  for (Pair& pair : pairs) {
    CHECK(Change(queue, pair.ends[0], EVFILT_READ, EV_ADD) == 0);
    CHECK(Change(queue, pair.ends[0], EVFILT_WRITE, EV_ADD) == 0);
    Fill(pair.ends[1], "a");
  }
  std::set<std::pair<int, uintptr_t>> seen;
  for (int round = 0; round < 4 * 2 * kPairs / 10; round++) {
    for (const struct kevent& event : Wait(queue, 0, 10)) seen.emplace(event.filter, event.ident);
  }
  CHECK(seen.size() == 2 * kPairs);
}

// ------------------------------------------------------------------------------------------------ user
// events

TEST("a user event fires when it is triggered, and stays until it is cleared") {
  int queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER) == ENOENT);
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD, 0, 0, 5) == 0);
  CHECK(Quiet(queue));
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, 6) == 0);
  CHECK(Only(queue).udata == reinterpret_cast<void*>(6));
  CHECK(Only(queue).ident == 1);
  CHECK(Change(queue, 1, EVFILT_USER, EV_CLEAR) == 0);
  CHECK(Quiet(queue));
  CHECK(Change(queue, 1, EVFILT_USER, EV_CLEAR, NOTE_TRIGGER) == 0);
  CHECK(Quiet(queue));
  CHECK(Change(queue, 1, EVFILT_USER, EV_DELETE) == 0);
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER) == ENOENT);
}

TEST("a user event with EV_CLEAR is told once for any number of triggers") {
  int queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD | EV_CLEAR) == 0);
  for (int i = 0; i < 3; i++) CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER) == 0);
  CHECK(Only(queue).filter == EVFILT_USER);
  CHECK(Quiet(queue));
}

TEST("NOTE_TRIGGER is not looked at when a user event is added") {
  int queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER) == 0);
  CHECK(Quiet(queue));
}

TEST("a user event carries flags that are copied, or-ed and and-ed") {
  int queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD, 0x3) == 0);
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER, 42) == 0);
  CHECK(Only(queue).fflags == 0x3 && Only(queue).data == 42);
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_FFOR | 0x4) == 0);
  CHECK(Only(queue).fflags == 0x7);
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_FFAND | 0x5) == 0);
  CHECK(Only(queue).fflags == 0x5);
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_FFCOPY | 0x8) == 0);
  CHECK(Only(queue).fflags == 0x8);
}

TEST("a trigger from another thread, or from a signal handler, ends a wait") {
  static int queue;
  queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD | EV_CLEAR) == 0);
  std::thread thread([] { CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER) == 0); });
  CHECK(Next(queue).filter == EVFILT_USER);
  thread.join();
  signal(SIGUSR1, [](int) { Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER); });
  raise(SIGUSR1);
  CHECK(Only(queue).filter == EVFILT_USER);
}

// ------------------------------------------------------------------------------------------------ timers

TEST("a timer fires, never early, in each of its units") {
  int queue = kqueue();
  struct {
    uint32_t unit;
    int64_t data;
    int64_t nanos;
  } const cases[] = {{0, 3, 3 * kMilli},
                     {NOTE_MSECONDS, 2, 2 * kMilli},
                     {NOTE_USECONDS, 1500, 1'500'000},
                     {NOTE_NSECONDS, 1'200'000, 1'200'000},
                     {NOTE_SECONDS, 1, 1000 * kMilli}};
  for (const auto& one : cases) {
    int64_t start = check::NowNanos();
    CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, one.unit, one.data, 9) == 0);
    struct kevent event = Next(queue);
    CHECK(check::NowNanos() - start >= one.nanos);
    CHECK(event.filter == EVFILT_TIMER && event.data == 1 && event.udata == reinterpret_cast<void*>(9));
    CHECK(Change(queue, 1, EVFILT_TIMER, EV_DELETE) == ENOENT);
  }
}

TEST("a periodic timer counts what was missed, and starts anew when it is added again") {
  int queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, NOTE_MSECONDS, 1) == 0);
  CHECK(Next(queue).data >= 1);
  pollfd none = {-1, 0, 0};
  int64_t start = check::NowNanos();
  while (check::NowNanos() - start < 5 * kMilli) poll(&none, 1, 1);
  CHECK(Only(queue).data >= 4);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 1000) == 0);
  CHECK(Quiet(queue));
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_DELETE) == 0);
}

TEST("an absolute timer follows the wall clock, and one that is past fires at once") {
  int queue = kqueue();
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t nanos = now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_ABSTIME | NOTE_NSECONDS,
               nanos + 2 * kMilli) == 0);
  CHECK(Next(queue).data == 1);
  clock_gettime(CLOCK_REALTIME, &now);
  CHECK(now.tv_sec * 1'000'000'000LL + now.tv_nsec >= nanos + 2 * kMilli);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_ABSTIME | NOTE_SECONDS, 1) == 0);
  CHECK(Next(queue).data == 1);
}

TEST("a negative timer, or one with two units, is refused") {
  int queue = kqueue();
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, 0, -1) == EINVAL);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, NOTE_SECONDS | NOTE_NSECONDS, 1) == EINVAL);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_DELETE) == ENOENT);
}

// ------------------------------------------------------------------------------------------------ processes

pid_t Child(int status) {
  Pipe pipe;
  pid_t pid = fork();
  if (pid == 0) {
    char byte;
    close(pipe.write());
    fcntl(pipe.read(), F_SETFL, 0);
    ssize_t got = read(pipe.read(), &byte, 1);
    (void)got;
    if (status < 0) raise(-status);
    _exit(status);
  }
  close(pipe.read());
  // The caller lets it go by closing this.
  CHECK(dup2(pipe.write(), 200) == 200);
  close(pipe.write());
  return pid;
}

TEST("NOTE_EXIT tells the end of a child and its status, once") {
  int queue = kqueue();
  for (int how : {7, -SIGKILL}) {
    pid_t pid = Child(how);
    CHECK(Change(queue, pid, EVFILT_PROC, EV_ADD, NOTE_EXIT) == 0);
    CHECK(Quiet(queue));
    close(200);
    struct kevent event = Next(queue);
    CHECK(event.ident == static_cast<uintptr_t>(pid) && event.filter == EVFILT_PROC);
    CHECK(event.fflags == NOTE_EXIT && event.flags & EV_EOF);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);  // still there to be reaped
    CHECK(event.data == status);
    CHECK(Change(queue, pid, EVFILT_PROC, EV_DELETE) == ENOENT);
  }
}

TEST("a process that has ended, reaped or not, is no process: ESRCH") {
  int queue = kqueue();
  pid_t pid = Child(0);
  close(200);
  siginfo_t info = {};
  CHECK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT) == 0);
  CHECK(Change(queue, pid, EVFILT_PROC, EV_ADD, NOTE_EXIT) == ESRCH);
  CHECK(waitpid(pid, nullptr, 0) == pid);
  CHECK(Change(queue, pid, EVFILT_PROC, EV_ADD, NOTE_EXIT) == ESRCH);
}

// ------------------------------------------------------------------------------------------------ signals

TEST("a signal filter counts deliveries and leaves the handler in place") {
  static int handled;
  signal(SIGUSR1, [](int) { handled++; });
  int queue = kqueue();
  CHECK(Change(queue, SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, 3) == 0);
  CHECK(Quiet(queue));
  raise(SIGUSR1);
  raise(SIGUSR1);
  struct kevent event = Only(queue);
  CHECK(event.ident == SIGUSR1 && event.data == 2 && event.udata == reinterpret_cast<void*>(3));
  CHECK(handled == 2);
  CHECK(Quiet(queue));
  CHECK(Change(queue, SIGUSR1, EVFILT_SIGNAL, EV_DELETE) == 0);
  raise(SIGUSR1);
  CHECK(handled == 3 && Quiet(queue));
}

TEST("an ignored signal counts, and every queue counts it") {
  signal(SIGUSR1, SIG_IGN);
  int one = kqueue();
  int two = kqueue();
  CHECK(Change(one, SIGUSR1, EVFILT_SIGNAL, EV_ADD) == 0);
  CHECK(Change(two, SIGUSR1, EVFILT_SIGNAL, EV_ADD) == 0);
  raise(SIGUSR1);
  CHECK(Only(one).data == 1);
  CHECK(Only(two).data == 1);
  close(one);
  close(two);
  struct sigaction after;
  CHECK(sigaction(SIGUSR1, nullptr, &after) == 0 && after.sa_handler == SIG_IGN);
}

TEST("a handler that is installed later is noticed at the next wait") {
  int queue = kqueue();
  signal(SIGUSR1, SIG_IGN);
  CHECK(Change(queue, SIGUSR1, EVFILT_SIGNAL, EV_ADD) == 0);
  signal(SIGUSR1, Ignore);
  CHECK(Quiet(queue));
  raise(SIGUSR1);
  CHECK(Only(queue).data == 1);
}

TEST("a signal filter does not keep a signal from its default action") {
  pid_t pid = fork();
  if (pid == 0) {
    int queue = kqueue();
    Change(queue, SIGTERM, EVFILT_SIGNAL, EV_ADD);
    raise(SIGTERM);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

// ------------------------------------------------------------------------------------------------ the queue
// itself

TEST("a queue is not inherited: its number is free in the child, and the parent's goes on") {
  Pipe pipe;
  Pipe answer;
  int queue = kqueue();
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 1000) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    bool good = fcntl(queue, F_GETFD) == -1 && errno == EBADF;
    good = good && Change(queue, pipe.read(), EVFILT_READ, EV_DELETE) == EBADF;
    // The lowest number free is the queue's.
    int fresh = kqueue();
    good = good && fresh == queue && Change(fresh, pipe.read(), EVFILT_READ, EV_ADD) == 0;
    Fill(pipe.write(), "a");
    good = good && Only(fresh).data == 1;
    _exit(good ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(Only(queue).data == 1);
}

TEST("another poller sees a queue as readable exactly while it has something to tell") {
  Pipe pipe;
  int queue = kqueue();
  int outer = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {};
  event.events = EPOLLIN;
  CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, queue, &event) == 0);
  auto ready = [&](int millis) { return epoll_wait(outer, &event, 1, millis) == 1; };
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD | EV_CLEAR) == 0);
  CHECK(!ready(0));
  Fill(pipe.write(), "a");
  CHECK(ready(0) && ready(0));
  Empty(pipe.read());
  CHECK(!ready(0));
  CHECK(Change(queue, 1, EVFILT_USER, 0, NOTE_TRIGGER) == 0);
  CHECK(ready(0));
  CHECK(Only(queue).filter == EVFILT_USER);
  CHECK(!ready(0));
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_MSECONDS, 1) == 0);
  CHECK(ready(10'000));
  CHECK(Only(queue).filter == EVFILT_TIMER);
  CHECK(!ready(0));
}

TEST("a queue can be watched by a queue") {
  Pipe pipe;
  int inner = kqueue();
  int outer = kqueue();
  CHECK(Change(inner, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(outer, inner, EVFILT_READ, EV_ADD) == 0);
  CHECK(Quiet(outer));
  Fill(pipe.write(), "a");
  CHECK(Only(outer).ident == static_cast<uintptr_t>(inner));
}

TEST("a queue is made without close-on-exec, and closing it leaves no descriptor behind") {
  Pipe pipe;
  long before = CountDescriptors();
  int queue = kqueue();
  CHECK(fcntl(queue, F_GETFD) == 0);
  CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD) == 0);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, 0, 1000) == 0);
  CHECK(Change(queue, SIGUSR1, EVFILT_SIGNAL, EV_ADD) == 0);
  close(queue);
  CHECK(CountDescriptors() == before);
}

TEST("a queue takes one number of the lowest, and its filters take none") {
  int lowest = dup(0);
  close(lowest);
  int queue = kqueue();
  CHECK(queue == lowest);
  int next = dup(0);
  close(next);
  CHECK(Change(queue, 1, EVFILT_USER, EV_ADD) == 0);
  CHECK(Change(queue, 1, EVFILT_TIMER, EV_ADD, 0, 1000) == 0);
  CHECK(dup(0) == next);
}

TEST("a wait ends when its time is over, to the nanosecond and not before") {
  int queue = kqueue();
  for (int64_t nanos : {int64_t{1}, int64_t{300'000}, 2 * kMilli + 1}) {
    int64_t start = check::NowNanos();
    CHECK(Wait(queue, nanos).empty());
    CHECK(check::NowNanos() - start >= nanos);
  }
  struct kevent event;
  for (timespec time :
       {timespec{-1, 0}, timespec{0, -1}, timespec{0, 1'000'000'000}, timespec{100'000'001, 0}}) {
    CHECK(kevent(queue, nullptr, 0, &event, 1, &time) == -1 && errno == EINVAL);
  }
  CHECK(kevent(queue, nullptr, 0, nullptr, 0, nullptr) == 0);
}

TEST("a signal that is handled interrupts a wait") {
  struct sigaction action = {};
  action.sa_handler = Ignore;
  sigaction(SIGALRM, &action, nullptr);
  int queue = kqueue();
  itimerspec when = {};
  when.it_value.tv_nsec = 2 * kMilli;
  when.it_interval.tv_nsec = 2 * kMilli;  // again, should the first come before the wait
  sigevent how = {};
  how.sigev_notify = SIGEV_SIGNAL;
  how.sigev_signo = SIGALRM;
  timer_t timer;
  CHECK(timer_create(CLOCK_MONOTONIC, &how, &timer) == 0 && timer_settime(timer, 0, &when, nullptr) == 0);
  struct kevent event;
  CHECK(kevent(queue, nullptr, 0, &event, 1, nullptr) == -1 && errno == EINTR);
  timer_delete(timer);
}

TEST("filters come and go in one thread while another waits") {
  int queue = kqueue();
  constexpr int kRounds = 500;
  Pipe done;
  CHECK(Change(queue, done.read(), EVFILT_READ, EV_ADD) == 0);
  std::thread thread([&] {
    for (int round = 0; round < kRounds; round++) {
      Pipe pipe;
      CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_ADD) == 0);
      Fill(pipe.write(), "a");
      if (round % 2 == 0) CHECK(Change(queue, pipe.read(), EVFILT_READ, EV_DELETE) == 0);
      close(pipe.read());
      close(pipe.write());
    }
    Fill(done.write(), "a");
  });
  bool finished = false;
  while (!finished) {
    for (const struct kevent& event : Wait(queue, -1)) {
      finished = finished || event.ident == static_cast<uintptr_t>(done.read());
    }
  }
  thread.join();
}

}  // namespace

int main(int argc, char** argv) { return check::Main(argc, argv); }
