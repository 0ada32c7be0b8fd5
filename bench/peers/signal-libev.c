// Tells, for each SIGUSR2, when libev's callback ran.
#include <ev.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static void OnSignal(struct ev_loop* loop, ev_signal* watcher, int events) {
  (void)loop;
  (void)watcher;
  (void)events;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t called = now.tv_sec * 1000000000LL + now.tv_nsec;
  if (write(1, &called, sizeof called) < 0) ev_break(loop, EVBREAK_ALL);
}

int main(void) {
  struct ev_loop* loop = ev_default_loop(0);
  ev_signal watcher;
  ev_signal_init(&watcher, OnSignal, SIGUSR2);
  ev_signal_start(loop, &watcher);
  if (write(1, "ready\n", 6) != 6) return 1;
  ev_run(loop, 0);
  return 0;
}
