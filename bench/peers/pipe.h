// The work of libevent's pipe benchmark (its test/bench.c), the same for every C peer: `pairs` socket pairs,
// each read end watched; `active` bytes are written at the start, and each byte that is read is passed on to
// the next pair until `writes` more were written. A peer supplies its loop, calls OnReadable for every
// readiness and stops when that says true. Beside them `idle` descriptors are watched on which nothing ever
// happens.
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int pairs, active, writes, idle, warmups, rounds;
static int *read_ends, *write_ends, *idle_ends;
static long count, fired, left;

static void Fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static long long Nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void MakePair(int ends[2]) {
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) Fail("socketpair");
}

static void Prepare(int argc, char** argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: %s pairs active writes idle warmups rounds\n", argv[0]);
    exit(2);
  }
  pairs = atoi(argv[1]);
  active = atoi(argv[2]);
  writes = atoi(argv[3]);
  idle = atoi(argv[4]);
  warmups = atoi(argv[5]);
  rounds = atoi(argv[6]);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  read_ends = malloc(sizeof(int) * pairs);
  write_ends = malloc(sizeof(int) * pairs);
  for (int i = 0; i < pairs; i++) {
    int ends[2];
    MakePair(ends);
    read_ends[i] = ends[0];
    write_ends[i] = ends[1];
  }
  idle_ends = malloc(sizeof(int) * (idle + 1));
  for (int i = 0; i < idle; i += 2) MakePair(idle_ends + i);
}

static void Send(int index) {
  if (write(write_ends[index], "e", 1) != 1) Fail("write");
}

// True when everything that was written has been read.
static inline bool OnReadable(int index) {
  char byte;
  if (read(read_ends[index], &byte, 1) != 1) Fail("read");
  count++;
  if (left > 0) {
    left--;
    fired++;
    Send(index + 1 == pairs ? 0 : index + 1);
  }
  return count == fired;
}

static void StartRound(void) {
  count = 0;
  fired = active;
  left = writes;
  int space = pairs / active;
  for (int i = 0; i < active; i++) Send(i * space);
}

// Runs every round with `run`, which returns when OnReadable said true, and prints the times of the measured
// ones.
static int Measure(void (*run)(void)) {
  long long* wall = malloc(sizeof(long long) * rounds);
  long long* cpu = malloc(sizeof(long long) * rounds);
  for (int i = -warmups; i < rounds; i++) {
    StartRound();
    long long wall_start = Nanoseconds(CLOCK_MONOTONIC), cpu_start = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    run();
    if (count != active + writes) Fail("a round ended early");
    if (i < 0) continue;
    wall[i] = Nanoseconds(CLOCK_MONOTONIC) - wall_start;
    cpu[i] = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
  }
  printf("{\"wall\":[");
  for (int i = 0; i < rounds; i++) printf("%s%lld", i ? "," : "", wall[i]);
  printf("],\"cpu\":[");
  for (int i = 0; i < rounds; i++) printf("%s%lld", i ? "," : "", cpu[i]);
  printf("]}\n");
  return 0;
}
