// The timer benchmark on libev.
#include <ev.h>

#include "timers.h"

static struct ev_loop* loop;
static ev_timer* watchers;

static void OnTimer(struct ev_loop* of, ev_timer* watcher, int events) {
  (void)of;
  (void)watcher;
  (void)events;
  fired++;
}

static void Add(int index, int milliseconds) {
  ev_timer_init(&watchers[index], OnTimer, milliseconds / 1000.0, 0.);
  ev_timer_start(loop, &watchers[index]);
}

static void Cancel(int index) { ev_timer_stop(loop, &watchers[index]); }

static void Fire(void) { ev_run(loop, 0); }

int main(int argc, char** argv) {
  timers = argc > 1 ? atoi(argv[1]) : 0;
  loop = ev_default_loop(0);
  watchers = malloc(sizeof(ev_timer) * timers);
  ev_now_update(loop);
  return Measure();
}
