// The timer benchmark on libuv.
#include <uv.h>

#include "timers.h"

static uv_loop_t* loop;
static uv_timer_t* handles;

static void OnTimer(uv_timer_t* handle) {
  (void)handle;
  fired++;
}

static void Add(int index, int milliseconds) {
  uv_timer_init(loop, &handles[index]);
  uv_timer_start(&handles[index], OnTimer, milliseconds, 0);
}

static void Cancel(int index) { uv_timer_stop(&handles[index]); }

static void Fire(void) { uv_run(loop, UV_RUN_DEFAULT); }

int main(int argc, char** argv) {
  timers = argc > 1 ? atoi(argv[1]) : 0;
  loop = uv_default_loop();
  handles = malloc(sizeof(uv_timer_t) * timers);
  uv_update_time(loop);
  return Measure();
}
