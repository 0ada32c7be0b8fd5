// What the emulation answers, against what the BSDs' manual pages and sources say: the filters for reading and writing.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <set>
#include <vector>

#include "asked.h"
#include "check.h"
#include "watched.h"

namespace {

using namespace check;

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
  Bound taken;
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int queue = kqueue();
  CHECK(taken.Reach(client) == -1);
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
  Bound peer(SOCK_DGRAM);
  int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(peer.Reach(client) == 0);
  close(peer.fd);
  int queue = kqueue();
  CHECK(Change(queue, client, EVFILT_READ, EV_ADD) == 0);
  CHECK(send(client, "x", 1, 0) == 1);
  struct kevent event = Next(queue);
  CHECK(event.filter == EVFILT_READ && !(event.flags & EV_EOF));
}

TEST("a listening socket is readable when a connection waits") {
  Listener listener;
  int queue = kqueue();
  CHECK(Change(queue, listener.fd, EVFILT_READ, EV_ADD) == 0);
  CHECK(Quiet(queue));
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener.Reach(client) == 0);
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

}  // namespace
