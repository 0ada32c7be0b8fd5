// forkbeard-shim: started by lib/supervisor/shim.ts with a socket to the supervisor as descriptor 3, and the service's
// own descriptors. Reads its plan from the socket; see shim.h for what it does.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptors.h"
#include "shim/shim.h"

namespace {

constexpr int kControl = 3;

int signal_pipe = -1;

void OnSignal(int number) {
  const int before = errno;
  const char byte = static_cast<char>(number);
  // Full: then there is something to read already.
  if (write(signal_pipe, &byte, 1) < 0) errno = before;
  errno = before;
}

void Handle(int number, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

}  // namespace

int main() {
  using forkbeard::Fd;
  struct stat control;
  if (fstat(kControl, &control) < 0 || !S_ISSOCK(control.st_mode)) {
    fputs(
        "forkbeard-shim stays beside a supervised service; it is started by forkbeard and by nobody else.\n",
        stderr);
    return 2;
  }
  forkbeard::SetCloseOnExec(kControl, true);
  forkbeard::SetNonBlocking(kControl, true);
  int ends[2];
  if (int error = forkbeard::MakePipe(ends); error < 0)
    _exit(forkbeard::shim::Shim(Fd(kControl), error).Run());
  signal_pipe = ends[1];
  // The terminal's signals and others' are for the supervisor.
  for (int number : {SIGPIPE, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGALRM})
    Handle(number, SIG_IGN);
  for (int number : {SIGCHLD, SIGTERM, SIGHUP}) Handle(number, OnSignal);
  // `exit` would run what nobody needs.
  _exit(forkbeard::shim::Shim(Fd(kControl), ends[0]).Run());
}
