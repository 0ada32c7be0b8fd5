// The pipe benchmark on libevent, where it comes from.
#include <event2/event.h>

#include "pipe.h"

static struct event_base* base;

static void OnEvent(evutil_socket_t fd, short events, void* index) {
  (void)fd;
  (void)events;
  if (OnReadable((int)(long)index)) event_base_loopbreak(base);
}

static void Watch(int fd, long index) {
  struct event* event = event_new(base, fd, EV_READ | EV_PERSIST, OnEvent, (void*)index);
  if (event == NULL || event_add(event, NULL) != 0) Fail("event_add");
}

static void Run(void) { event_base_loop(base, 0); }

int main(int argc, char** argv) {
  Prepare(argc, argv);
  base = event_base_new();
  if (base == NULL) Fail("event_base_new");
  for (int i = 0; i < idle; i++) Watch(idle_ends[i], pairs);
  for (int i = 0; i < pairs; i++) Watch(read_ends[i], i);
  return Measure(Run);
}
