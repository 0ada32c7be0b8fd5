// The pipe benchmark on libuv, with uv_poll_t: raw readiness, as the others have it.
#include <uv.h>

#include "pipe.h"

static uv_loop_t* loop;

static void OnEvent(uv_poll_t* watcher, int status, int events) {
  (void)events;
  if (status != 0) Fail("uv_poll_t");
  if (OnReadable((int)(long)watcher->data)) uv_stop(watcher->loop);
}

static void Watch(int fd, long index) {
  uv_poll_t* watcher = malloc(sizeof(uv_poll_t));
  if (uv_poll_init(loop, watcher, fd) != 0) Fail("uv_poll_init");
  watcher->data = (void*)index;
  uv_poll_start(watcher, UV_READABLE, OnEvent);
}

static void Run(void) { uv_run(loop, UV_RUN_DEFAULT); }

int main(int argc, char** argv) {
  Prepare(argc, argv);
  loop = uv_default_loop();
  for (int i = 0; i < idle; i++) Watch(idle_ends[i], pairs);
  for (int i = 0; i < pairs; i++) Watch(read_ends[i], i);
  return Measure(Run);
}
