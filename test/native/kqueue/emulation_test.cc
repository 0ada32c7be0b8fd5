// What the emulation answers, against what the BSDs' manual pages and sources say: what its flags do, and what a queue is.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "asked.h"
#include "check.h"
#include "watched.h"

namespace {

using namespace check;

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
