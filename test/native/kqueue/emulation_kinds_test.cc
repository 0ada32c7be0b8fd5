// What the emulation answers, against what the BSDs' manual pages and sources say: user events, timers,
// processes and signals.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/event.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "asked.h"
#include "check.h"
#include "watched.h"

namespace {

using namespace check;

void Ignore(int) {}

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

}  // namespace
