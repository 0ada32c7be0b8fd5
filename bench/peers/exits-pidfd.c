// From the end of one child to our knowing of it, among many: a pidfd of each in epoll. Arguments: how many live, how
// many of them end, one after the other.
#include <sys/epoll.h>

#include "spawn.h"

static char* const kProgram[] = {"/bin/sleep", "1000", NULL};

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int live = atoi(argv[1]), ending = atoi(argv[2]);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  int set = epoll_create1(EPOLL_CLOEXEC);
  pid_t* pids = calloc(live, sizeof *pids);
  for (int i = 0; i < live; i++) {
    pids[i] = Start(kProgram);
    struct epoll_event event = {.events = EPOLLIN,
                                .data.u64 = (uint64_t)OpenPidfd(pids[i]) << 32 | (uint32_t)pids[i]};
    if (epoll_ctl(set, EPOLL_CTL_ADD, (int)(event.data.u64 >> 32), &event) < 0) Die("epoll_ctl");
  }
  double* times = calloc(ending, sizeof *times);
  for (int i = 0; i < ending; i++) {
    usleep(1000);
    double before = Now();
    kill(pids[i], SIGKILL);
    struct epoll_event event;
    if (epoll_wait(set, &event, 1, -1) != 1) Die("epoll_wait");
    waitpid((pid_t)event.data.u64, NULL, 0);
    times[i] = Now() - before;
    close((int)(event.data.u64 >> 32));
  }
  for (int i = ending; i < live; i++) kill(pids[i], SIGKILL);
  for (int i = ending; i < live; i++) waitpid(pids[i], NULL, 0);
  printf("{\"latency\":%f}\n", Median(times, ending));
  return 0;
}
