// The pipe benchmark on libev.
#include <ev.h>

#include "pipe.h"

static struct ev_loop* loop;

static void OnEvent(struct ev_loop* of, ev_io* watcher, int events) {
  (void)events;
  if (OnReadable((int)(long)watcher->data)) ev_break(of, EVBREAK_ALL);
}

static void Watch(int fd, long index) {
  ev_io* watcher = malloc(sizeof(ev_io));
  ev_io_init(watcher, OnEvent, fd, EV_READ);
  watcher->data = (void*)index;
  ev_io_start(loop, watcher);
}

static void Run(void) { ev_run(loop, 0); }

int main(int argc, char** argv) {
  Prepare(argc, argv);
  loop = ev_default_loop(EVBACKEND_EPOLL);
  if (loop == NULL) Fail("ev_default_loop");
  for (int i = 0; i < idle; i++) Watch(idle_ends[i], pairs);
  for (int i = 0; i < pairs; i++) Watch(read_ends[i], i);
  return Measure(Run);
}
