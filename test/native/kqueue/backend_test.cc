// The kqueue backend by itself, on the emulation: what the tests of a whole loop do not reach or cannot tell apart. The programs
// run with FORKBEARD_PRETEND_MISSING=EVFILT_USER as well, the way of a kernel without user events.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "poller/poller.h"
#include "watched.h"

namespace {

using forkbeard::Backend;
using forkbeard::Event;
using forkbeard::Poller;
using enum forkbeard::Mask;
using check::Empty;
using check::Fill;
using check::Pair;
using check::Pipe;
using check::Tcp;

constexpr int64_t kMilli = 1'000'000;
constexpr int64_t kLong = 10'000 * kMilli;

std::unique_ptr<Poller> Make() {
  int error = 0;
  auto poller = Poller::Create(Backend::kKqueue, &error);
  CHECK(poller != nullptr && error == 0);
  return poller;
}

std::vector<Event> Wait(Poller& poller, int64_t timeout = 0, size_t room = 16) {
  std::vector<Event> events(room);
  int count = poller.Wait(timeout, events);
  CHECK(count >= 0);
  events.resize(count < 0 ? 0 : count);
  return events;
}

// The mask of the one event that there is, 0 if there is none.
uint32_t Told(Poller& poller, uint32_t slot = 0) {
  auto events = Wait(poller);
  CHECK(events.size() <= 1);
  if (events.empty()) return 0;
  CHECK(events[0].slot == slot);
  return events[0].mask;
}

// ------------------------------------------------------------------------------------------------ descriptors

TEST("both directions of a descriptor come as one event") {
  Pair pair;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pair.ends[0], kRead | kWrite) == 0);
  CHECK(Told(*poller) == kWrite);
  Fill(pair.ends[1], "a");
  CHECK(Told(*poller) == (kRead | kWrite));
  CHECK(poller->Modify(0, kRead) == 0);
  CHECK(Told(*poller) == kRead);
  CHECK(poller->Modify(0, kWrite) == 0);
  CHECK(Told(*poller) == kWrite);
  poller->Remove(0);
  CHECK(Told(*poller) == 0);
}

TEST("events keep apart in a batch of many, and nobody is left out when not all fit") {
  constexpr uint32_t kCount = 50;
  std::vector<Pair> pairs(kCount);
  auto poller = Make();
  for (uint32_t slot = 0; slot < kCount; slot++) {
    CHECK(poller->Add(slot, slot + 100, pairs[slot].ends[0], kRead | kWrite) == 0);
    Fill(pairs[slot].ends[1], "a");
  }
  auto events = Wait(*poller, 0, 2 * kCount);
  CHECK(events.size() == kCount);
  for (const Event& event : events) {
    CHECK(event.generation == event.slot + 100 && event.mask == (kRead | kWrite));
  }
  std::set<std::pair<uint32_t, uint32_t>> seen;
  for (int round = 0; round < 100; round++) {
    for (const Event& event : Wait(*poller, 0, 7)) {
      for (uint32_t bit : {kRead, kWrite}) {
        if (event.mask & bit) seen.emplace(event.slot, bit);
      }
    }
  }
  CHECK(seen.size() == 2 * kCount);
}

TEST("a descriptor that is not open is refused, and leaves nothing behind") {
  auto poller = Make();
  CHECK(poller->Add(0, 1, 9999, kRead | kWrite) == -EBADF);
  Pipe pipe;
  CHECK(poller->Add(0, 2, pipe.read(), kRead) == 0);
  close(pipe.read());
  CHECK(poller->Modify(0, kRead | kHangup) == -EBADF);
  poller->Remove(0);
  CHECK(Told(*poller) == 0);
}

TEST("a number that was closed and opened again behind our back is taken anew by the next change") {
  Pipe first;
  Pipe second;
  auto poller = Make();
  CHECK(poller->Add(0, 1, first.read(), kRead) == 0);
  int number = first.read();
  CHECK(dup2(second.read(), number) == number);
  Fill(second.write(), "a");
  CHECK(poller->Modify(0, kRead) == 0);
  CHECK(Told(*poller) == kRead);
}

TEST("what cannot be polled is always ready") {
  char name[] = "/tmp/forkbeard-kqueue-XXXXXX";
  int file = mkstemp(name);
  unlink(name);
  int folder = open("/", O_RDONLY | O_CLOEXEC);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd : {file, folder, null}) {
    auto poller = Make();
    CHECK(poller->Add(0, 1, fd, kRead | kWrite) == 0);
    CHECK(poller->HasImmediate());
    CHECK(Told(*poller) == (kRead | kWrite));
    CHECK(Told(*poller) == (kRead | kWrite));
    poller->Remove(0);
    CHECK(!poller->HasImmediate());
  }
  // A number that became a regular file.
  Pipe pipe;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pipe.read(), kRead) == 0);
  CHECK(dup2(file, pipe.read()) == pipe.read());
  CHECK(poller->Modify(0, kRead | kWrite) == 0);
  CHECK(Told(*poller) == (kRead | kWrite));
}

TEST("an edge is told once, and again after a change") {
  Pair pair;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pair.ends[0], kRead | kEdge) == 0);
  Fill(pair.ends[1], "a");
  CHECK(Told(*poller) == kRead);
  CHECK(Told(*poller) == 0);
  Fill(pair.ends[1], "b");
  CHECK(Told(*poller) == kRead);
  CHECK(poller->Modify(0, kRead | kEdge) == 0);
  CHECK(Told(*poller) == kRead);
  // Another way of triggering replaces the filter: an EV_ADD alone would not.
  CHECK(poller->Modify(0, kRead) == 0);
  CHECK(Told(*poller) == kRead);
  CHECK(Told(*poller) == kRead);
  CHECK(poller->Modify(0, kRead | kEdge) == 0);
  CHECK(Told(*poller) == kRead);
  CHECK(Told(*poller) == 0);
}

// ------------------------------------------------------------------------------------------------ ends

TEST("data is told with the end that follows it") {
  Pair pair;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pair.ends[0], kRead | kHangup) == 0);
  Fill(pair.ends[1], "a");
  CHECK(Told(*poller) == kRead);
  CHECK(shutdown(pair.ends[1], SHUT_WR) == 0);
  CHECK(Told(*poller) == (kRead | kHalfClosed));
  Empty(pair.ends[0]);
  CHECK(Told(*poller) == (kRead | kHalfClosed));
  CHECK(poller->Modify(0, kRead) == 0);
  CHECK(Told(*poller) == kRead);
}

TEST("an interest in nothing but the end hears nothing of data, and of the end until it is taken back") {
  for (bool socket : {false, true}) {
    Pipe pipe;
    Pair pair;
    int reader = socket ? pair.ends[0] : pipe.read();
    int writer = socket ? pair.ends[1] : pipe.write();
    auto poller = Make();
    CHECK(poller->Add(0, 1, reader, kHangup) == 0);
    Fill(writer, "unread");
    CHECK(Told(*poller) == 0);
    CHECK(!check::IsReadable(poller->fd()));
    close(writer);
    CHECK(Told(*poller) == kHalfClosed);
    CHECK(check::IsReadable(poller->fd()));
    CHECK(Told(*poller) == kHalfClosed);
    CHECK(poller->Modify(0, kRead | kHangup) == 0);
    CHECK(Told(*poller) == (kRead | kHalfClosed));
    CHECK(Told(*poller) == (kRead | kHalfClosed));
    CHECK(poller->Modify(0, kHangup | kEdge) == 0);
    CHECK(Told(*poller) == kHalfClosed);
    CHECK(Told(*poller) == 0);
    CHECK(poller->Modify(0, kHangup) == 0);
    CHECK(Told(*poller) == kHalfClosed);
    poller->Remove(0);
    CHECK(!check::IsReadable(poller->fd()));
    CHECK(Told(*poller) == 0);
  }
}

TEST("a writer learns that the reader is gone") {
  Pipe pipe;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pipe.write(), kHangup) == 0);
  CHECK(Told(*poller) == 0);
  CHECK(!check::IsReadable(poller->fd()));
  close(pipe.read());
  CHECK(Told(*poller) == kHangup);
  CHECK(Told(*poller) == kHangup);
  CHECK(poller->Modify(0, kWrite | kHangup) == 0);
  auto events = Wait(*poller, kLong);
  CHECK(events.size() == 1 && events[0].mask == (kWrite | kHangup));
  poller->Remove(0);
  CHECK(!check::IsReadable(poller->fd()));
}

TEST("a writer learns that the reader was gone before it was asked") {
  Pipe pipe;
  close(pipe.read());
  auto poller = Make();
  CHECK(poller->Add(0, 1, pipe.write(), kWrite | kHangup) == 0);
  for (int round = 0; round < 3; round++) {
    auto events = Wait(*poller, kLong);
    CHECK(events.size() == 1 && events[0].mask == (kWrite | kHangup) && events[0].generation == 1);
  }
  // It is a hangup of the kernel object as well, for a loop that sleeps elsewhere.
  CHECK(poller->Modify(0, kWrite) == 0);
  CHECK(Wait(*poller, kLong).size() == 1);
  CHECK(poller->Modify(0, kHangup) == 0);
  for (int round = 0; round < 3; round++) {
    auto events = Wait(*poller, kLong);
    CHECK(events.size() == 1 && events[0].mask == kHangup);
  }
  CHECK(poller->Modify(0, kWrite | kEdge) == 0);
  CHECK(Wait(*poller, kLong).size() == 1);
  CHECK(Wait(*poller, 5 * kMilli).empty());
  CHECK(poller->Modify(0, kWrite) == 0);
  CHECK(Wait(*poller, kLong).size() == 1);
  CHECK(poller->Recreate() == 0);
  Wait(*poller);
  CHECK(Wait(*poller, kLong).size() == 1);
  poller->Remove(0);
  CHECK(Wait(*poller, 5 * kMilli).empty());
  CHECK(!check::IsReadable(poller->fd()));
  // The number serves another pipe, which is whole.
  Pipe other;
  CHECK(dup2(other.read(), pipe.write()) == pipe.write());
  CHECK(poller->Add(0, 2, pipe.write(), kRead) == 0);
  CHECK(Wait(*poller, 5 * kMilli).empty());
}

TEST("our own shutdown is no hangup") {
  Tcp tcp;
  auto poller = Make();
  CHECK(shutdown(tcp.client, SHUT_WR) == 0);
  CHECK(poller->Add(0, 1, tcp.client, kWrite | kHangup) == 0);
  CHECK(Told(*poller) == kWrite);
  CHECK(shutdown(tcp.server, SHUT_WR) == 0);
  auto events = Wait(*poller, kLong);
  while (!events.empty() && !(events[0].mask & kHalfClosed)) events = Wait(*poller, kLong);
  CHECK(events.size() == 1);
}

TEST("a reset is an error, also to those who ask for errors alone") {
  for (uint32_t mask : {uint32_t{kRead}, uint32_t{kWrite}, uint32_t{kHangup}, uint32_t{kError}}) {
    Tcp tcp;
    auto poller = Make();
    CHECK(poller->Add(0, 1, tcp.client, mask) == 0);
    linger abort = {1, 0};
    CHECK(setsockopt(tcp.server, SOL_SOCKET, SO_LINGER, &abort, sizeof abort) == 0);
    close(tcp.server);
    uint32_t told = 0;
    while (!(told & kError)) {
      auto events = Wait(*poller, kLong);
      if (events.empty()) break;
      told = events[0].mask;
    }
    CHECK(told & kError);
    CHECK((told & (kRead | kWrite)) == (mask & (kRead | kWrite)));
  }
  // An orderly end is none.
  Tcp tcp;
  auto poller = Make();
  CHECK(poller->Add(0, 1, tcp.client, kError) == 0);
  close(tcp.server);
  CHECK(Wait(*poller, 5 * kMilli).empty());
}

TEST("a datagram socket's error is told to those who ask for errors or the end alone, and its data is not") {
  for (uint32_t mask : {kError, kHangup}) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(bind(peer, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(getsockname(peer, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(getsockname(client, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    auto poller = Make();
    CHECK(poller->Add(0, 1, client, mask) == 0);
    CHECK(sendto(peer, "data", 4, 0, reinterpret_cast<sockaddr*>(&address), size) == 4);
    CHECK(Wait(*poller, 5 * kMilli).empty());
    close(peer);
    CHECK(send(client, "x", 1, 0) == 1);
    auto events = Wait(*poller, kLong);
    while (events.empty()) events = Wait(*poller, kLong);
    CHECK(events.size() == 1 && events[0].mask == kError);
  }
}

TEST("a listening socket tells nothing of connections to those who ask for errors or the end alone") {
  check::Listener listener;
  auto poller = Make();
  CHECK(poller->Add(0, 1, listener.fd, kHangup) == 0);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener.Reach(client) == 0);
  CHECK(Wait(*poller, 5 * kMilli).empty());
  CHECK(!check::IsReadable(poller->fd()));
  CHECK(poller->Modify(0, kRead | kHangup) == 0);
  CHECK(Told(*poller) == kRead);
}

// ------------------------------------------------------------------------------------------------ waking, time

TEST("a wake-up ends the wait that runs, or the next one, and no other") {
  auto poller = Make();
  poller->Wake();
  poller->Wake();
  CHECK(check::IsReadable(poller->fd()));
  CHECK(Wait(*poller, Poller::kForever).empty());
  int64_t start = check::NowNanos();
  CHECK(Wait(*poller, 3 * kMilli).empty());
  CHECK(check::NowNanos() - start >= 3 * kMilli);
  std::thread thread([&] { poller->Wake(); });
  CHECK(Wait(*poller, Poller::kForever).empty());
  thread.join();
  static Poller* woken;
  woken = poller.get();
  signal(SIGUSR1, [](int) { woken->Wake(); });
  raise(SIGUSR1);
  CHECK(Wait(*poller, Poller::kForever).empty());
}

TEST("an alarm makes the kqueue readable, once, never early, and can be moved and taken back") {
  auto poller = Make();
  int64_t start = check::NowNanos();
  CHECK(poller->SetAlarm(3 * kMilli + 1) == 0);
  CHECK(!check::IsReadable(poller->fd()));
  pollfd state = {poller->fd(), POLLIN, 0};
  CHECK(poll(&state, 1, 10'000) == 1);
  CHECK(check::NowNanos() - start > 3 * kMilli);
  CHECK(Wait(*poller).empty());
  CHECK(!check::IsReadable(poller->fd()));
  CHECK(poller->SetAlarm(kLong) == 0);
  CHECK(poller->SetAlarm(0) == 0);
  CHECK(poll(&state, 1, 10'000) == 1);
  // One that is due is gone with the one that replaces it.
  CHECK(poller->SetAlarm(kLong) == 0);
  CHECK(!check::IsReadable(poller->fd()));
  CHECK(poller->SetAlarm(kMilli) == 0);
  CHECK(poller->SetAlarm(-1) == 0);
  CHECK(poller->SetAlarm(-1) == 0);
  start = check::NowNanos();
  CHECK(Wait(*poller, 5 * kMilli).empty());
  CHECK(check::NowNanos() - start >= 5 * kMilli);
  CHECK(poller->SetWallAlarm(1) == -ENOTSUP);
}

TEST("a wait of any length is taken, and ends to the nanosecond and not before") {
  auto poller = Make();
  for (int64_t nanos : {int64_t{1}, int64_t{250'000}, 2 * kMilli + 1}) {
    int64_t start = check::NowNanos();
    CHECK(Wait(*poller, nanos).empty());
    CHECK(check::NowNanos() - start >= nanos);
  }
  poller->Wake();
  CHECK(Wait(*poller, INT64_MAX).empty());
}

// ------------------------------------------------------------------------------------------------ other kernel objects

TEST("a rebuilt kqueue has the same interests and the same alarm, and reports what it could not take") {
  Pipe pipe;
  Pipe gone;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pipe.read(), kRead) == 0);
  CHECK(poller->Add(1, 2, gone.read(), kRead) == 0);
  CHECK(poller->SetAlarm(4 * kMilli) == 0);
  int64_t start = check::NowNanos();
  close(gone.read());
  CHECK(poller->Recreate() == 0);
  auto events = Wait(*poller);
  CHECK(events.size() == 1 && events[0].slot == 1 && (events[0].mask & kInvalid) != 0);
  CHECK(events[0].mask == (kInvalid | forkbeard::ReportedErrno(EBADF)));
  CHECK(Wait(*poller, kLong).empty());
  int64_t waited = check::NowNanos() - start;
  CHECK(waited >= 4 * kMilli && waited < kLong);
  Fill(pipe.write(), "a");
  CHECK(Told(*poller) == kRead);
}

TEST("a kqueue is closed on exec") {
  auto poller = Make();
  CHECK(fcntl(poller->fd(), F_GETFD) == FD_CLOEXEC);
}

TEST("a forked child makes its own kqueue and never closes the number of the old one") {
  Pipe pipe;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pipe.read(), kRead) == 0);
  CHECK(poller->SetAlarm(kLong) == 0);
  for (bool recreate : {true, false}) {
    pid_t pid = fork();
    if (pid == 0) {
      int old = poller->fd();
      CHECK(fcntl(old, F_GETFD) == -1);
      // The number is somebody else's by now.
      int stranger = open("/dev/null", O_RDONLY | O_CLOEXEC);
      CHECK(stranger == old);
      poller->Forked();
      if (recreate) {
        CHECK(poller->Recreate() == 0 && poller->fd() != old);
        CHECK(fcntl(poller->fd(), F_GETFD) == FD_CLOEXEC);
        Wait(*poller);
        CHECK(!check::IsReadable(poller->fd()));
        Fill(pipe.write(), "c");
        CHECK(Told(*poller) == kRead);
        poller->Wake();
        CHECK(Wait(*poller, Poller::kForever).size() == 1);
      }
      poller.reset();
      CHECK(fcntl(stranger, F_GETFD) == FD_CLOEXEC);
      _exit(check::failures == 0 ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  }
  Empty(pipe.read());
  CHECK(Wait(*poller, 3 * kMilli).empty());  // neither woken nor rung by the child
  Fill(pipe.write(), "p");
  CHECK(Told(*poller) == kRead);
}

TEST("an event of another generation is not told") {
  Pipe pipe;
  auto poller = Make();
  CHECK(poller->Add(0, 1, pipe.read(), kRead) == 0);
  Fill(pipe.write(), "a");
  // Another owner of the same queue, with user data of its own.
  struct kevent change;
  EV_SET(&change, pipe.read(), EVFILT_READ, EV_ADD, 0, 0, reinterpret_cast<void*>(uint64_t{7} << 32));
  CHECK(kevent(poller->fd(), &change, 1, nullptr, 0, nullptr) == 0);
  CHECK(Told(*poller) == 0);
  // The queue was made anew, with what it should hold.
  Wait(*poller);
  CHECK(Told(*poller) == kRead);
}

}  // namespace

int main(int argc, char** argv) { return check::Main(argc, argv); }
