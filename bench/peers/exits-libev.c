// From the end of one child to libev's callback, among many. Arguments as exits-pidfd.c.
#include <ev.h>

#include "spawn.h"

static char* const kProgram[] = {"/bin/sleep", "1000", NULL};
static pid_t* pids;
static double* times;
static double before;
static int ending, ended;

static void Kill(struct ev_loop* loop, ev_timer* watcher, int events) {
  (void)loop, (void)watcher, (void)events;
  before = Now();
  kill(pids[ended], SIGKILL);
}

static ev_timer pause_before;

static void Next(struct ev_loop* loop) {
  ev_timer_init(&pause_before, Kill, 0.001, 0);
  ev_timer_start(loop, &pause_before);
}

static void OnExit(struct ev_loop* loop, ev_child* watcher, int events) {
  (void)events;
  times[ended++] = Now() - before;
  ev_child_stop(loop, watcher);
  if (ended == ending) {
    ev_break(loop, EVBREAK_ALL);
  } else {
    Next(loop);
  }
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int live = atoi(argv[1]);
  ending = atoi(argv[2]);
  struct ev_loop* loop = ev_default_loop(0);
  pids = calloc(live, sizeof *pids);
  times = calloc(ending, sizeof *times);
  ev_child* watchers = calloc(live, sizeof *watchers);
  for (int i = 0; i < live; i++) {
    pids[i] = Start(kProgram);
    ev_child_init(&watchers[i], OnExit, pids[i], 0);
    ev_child_start(loop, &watchers[i]);
  }
  Next(loop);
  ev_run(loop, 0);
  for (int i = ending; i < live; i++) kill(pids[i], SIGKILL);
  for (int i = ending; i < live; i++) waitpid(pids[i], NULL, 0);
  printf("{\"latency\":%f}\n", Median(times, ending));
  return 0;
}
