// How late timers fire on epoll_pwait2 itself: each round takes `timers` deadlines of 1 to 50 ms from now and sleeps until
// the next one, again and again. Prints, for each round, how many fired early and the latenesses' median and 99th
// percentile in microseconds.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned random_state = 1;

static long long Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int Compare(const void* a, const void* b) {
  long long x = *(const long long*)a, y = *(const long long*)b;
  return (x > y) - (x < y);
}

struct result {
  int early;
  double median, p99;
};

static struct result Round(int epoll, int timers, long long* deadlines, long long* lateness) {
  for (int i = 0; i < timers; i++) {
    random_state = (random_state * 1103515245u + 12345u) & 0x7fffffff;
    deadlines[i] = Now() + (1 + (random_state >> 8) % 50) * 1000000LL;
  }
  qsort(deadlines, timers, sizeof *deadlines, Compare);
  for (int next = 0; next < timers;) {
    long long left = deadlines[next] - Now();
    if (left > 0) {
      struct epoll_event event;
      struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
      if (syscall(SYS_epoll_pwait2, epoll, &event, 1, &timeout, NULL, 0) < 0) {
        fprintf(stderr, "epoll_pwait2: %s\n", strerror(errno));
        exit(1);
      }
      continue;
    }
    lateness[next] = Now() - deadlines[next];
    next++;
  }
  int early = 0;
  for (int i = 0; i < timers; i++) early += lateness[i] < 0;
  qsort(lateness, timers, sizeof *lateness, Compare);
  return (struct result){early, lateness[timers / 2] / 1e3, lateness[timers * 99 / 100] / 1e3};
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  int timers = atoi(argv[1]), warmups = atoi(argv[2]), rounds = atoi(argv[3]);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  long long* deadlines = malloc(sizeof(long long) * timers);
  long long* lateness = malloc(sizeof(long long) * timers);
  printf("{\"rounds\":[");
  for (int i = -warmups; i < rounds; i++) {
    struct result result = Round(epoll, timers, deadlines, lateness);
    if (i < 0) continue;
    printf("%s{\"early\":%d,\"median\":%.3f,\"p99\":%.3f}", i > 0 ? "," : "", result.early, result.median,
           result.p99);
  }
  printf("]}\n");
  return 0;
}
