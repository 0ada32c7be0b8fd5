// Measures how long a signal takes to reach a callback: … signals command…
// Runs the command, waits for its line "ready", then sends SIGUSR2 that many times, each time when the loop has been idle
// for a few milliseconds, and reads from its standard output the CLOCK_MONOTONIC nanoseconds, eight bytes, at which
// its callback ran. Prints median and 99th percentile in microseconds.
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void Fail(const char* what) {
  fprintf(stderr, "signal-load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int Compare(const void* a, const void* b) {
  int64_t x = *(const int64_t*)a, y = *(const int64_t*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  enum { kWarmup = 50 };
  int signals = atoi(argv[1]), ends[2];
  if (pipe(ends) != 0) Fail("pipe");
  pid_t child = fork();
  if (child < 0) Fail("fork");
  if (child == 0) {
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    execvp(argv[2], argv + 2);
    Fail(argv[2]);
  }
  close(ends[1]);
  char ready[6];
  if (read(ends[0], ready, sizeof ready) != 6 || memcmp(ready, "ready\n", 6) != 0)
    Fail("the program is not ready");
  int64_t* latency = malloc(sizeof(int64_t) * signals);
  for (int i = -kWarmup; i < signals; i++) {
    struct timespec pause = {.tv_nsec = 2000000 + (i & 7) * 100000};
    nanosleep(&pause, NULL);
    int64_t sent = Now(), called;
    if (kill(child, SIGUSR2) != 0) Fail("kill");
    if (read(ends[0], &called, sizeof called) != sizeof called) Fail("read");
    if (i >= 0) latency[i] = called - sent;
  }
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  qsort(latency, signals, sizeof *latency, Compare);
  printf("{\"median\":%.3f,\"p99\":%.3f}\n", latency[signals / 2] / 1e3, latency[signals * 99 / 100] / 1e3);
  return 0;
}
