// The work of the timer benchmark, the same for every C peer: add `timers` timers of 1 to 1000 ms, cancel every other
// one, wait without the loop until all of the rest are due, then have the loop fire them. A peer supplies Add, Cancel
// and Fire; Fire returns when `fired` is as high as it can get. What counts is the CPU time of the process: that
// the middle part only sleeps keeps a loop's wake-ups, which depend on its clock's resolution, out of it.
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int timers, fired;

static void Add(int index, int milliseconds);
static void Cancel(int index);
static void Fire(void);

static double Cpu(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
}

static int Measure(void) {
  unsigned random = 1;
  unsigned short* delays = malloc(sizeof(short) * timers);
  for (int i = 0; i < timers; i++) {
    random = (random * 1103515245u + 12345u) & 0x7fffffff;
    delays[i] = 1 + (random >> 8) % 1000;
  }
  double start = Cpu();
  for (int i = 0; i < timers; i++) Add(i, delays[i]);
  double added = Cpu();
  for (int i = 1; i < timers; i += 2) Cancel(i);
  double cancelled = Cpu();
  struct timespec nap = {.tv_sec = 1, .tv_nsec = 10000000};
  nanosleep(&nap, NULL);
  double due = Cpu();
  Fire();
  double end = Cpu();
  if (fired != timers / 2) {
    fprintf(stderr, "%d timers fired instead of %d\n", fired, timers / 2);
    return 1;
  }
  printf("{\"add\":%.0f,\"cancel\":%.0f,\"fire\":%.0f}\n", added - start, cancelled - added, end - due);
  return 0;
}
