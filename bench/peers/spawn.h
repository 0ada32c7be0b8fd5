// What the C peers of spawning share: starting a program as cheaply as C can, the clock, and medians.
#pragma once

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

static inline double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

// The child closes what it shall not have and resets every signal, as the others do.
static inline pid_t Start(char* const* command) {
  pid_t pid = vfork();
  if (pid != 0) return pid;
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  syscall(SYS_close_range, 3, ~0u, 0);
  execve(command[0], command, environ);
  _exit(127);
}

static inline int OpenPidfd(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

static inline int ByValue(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static inline double Median(double* values, int count) {
  qsort(values, count, sizeof *values, ByValue);
  return values[count / 2];
}

static inline void Die(const char* what) {
  perror(what);
  exit(1);
}
