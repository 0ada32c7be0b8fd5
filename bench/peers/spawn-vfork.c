// Spawns a program that ends at once, in C: vfork, exec, a pidfd in epoll, waitpid. Arguments: how many, megabytes of
// ballast.
#include <sys/epoll.h>

#include "spawn.h"

enum { kInFlight = 8 };
static char* const kProgram[] = {"/bin/true", NULL};
static int set;

static int Add(double* blocked) {
  double before = Now();
  pid_t pid = Start(kProgram);
  if (pid < 0) Die("vfork");
  int pidfd = OpenPidfd(pid);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)pidfd << 32 | (uint32_t)pid};
  if (pidfd < 0 || epoll_ctl(set, EPOLL_CTL_ADD, pidfd, &event) < 0) Die("epoll_ctl");
  *blocked = Now() - before;
  return pid;
}

// The end of one, or of several at once.
static int Wait(void) {
  struct epoll_event events[kInFlight];
  int count = epoll_wait(set, events, kInFlight, -1);
  for (int i = 0; i < count; i++) {
    if (waitpid((pid_t)events[i].data.u64, NULL, 0) < 0) Die("waitpid");
    close((int)(events[i].data.u64 >> 32));
  }
  return count;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int count = atoi(argv[1]);
  size_t ballast = (size_t)atoi(argv[2]) << 20;
  char* memory = malloc(ballast + 1);
  memset(memory, 1, ballast + 1);
  set = epoll_create1(EPOLL_CLOEXEC);
  double* blocked = calloc(count, sizeof *blocked);
  double* latency = calloc(count, sizeof *latency);
  for (int i = -count / 10; i < count; i++) {
    int at = i < 0 ? 0 : i;
    double before = Now();
    Add(&blocked[at]);
    while (Wait() == 0) {
    }
    latency[at] = Now() - before;
  }
  double begin = Now(), ignored;
  int running = 0;
  for (int started = 0, ended = 0; ended < count;) {
    for (; started < count && running < kInFlight; started++, running++) Add(&ignored);
    int over = Wait();
    ended += over;
    running -= over;
  }
  double rate = count / (Now() - begin) * 1e6;
  printf("{\"blocked\":%f,\"latency\":%f,\"rate\":%f}\n", Median(blocked, count), Median(latency, count),
         rate);
  return memory[ballast] - 1;
}
