// The pipe benchmark on epoll(7) itself: what everything else is measured by.
#include <sys/epoll.h>

#include "pipe.h"

enum { kBatch = 1024 };
static int epoll;

static void Watch(int fd, int index) {
  struct epoll_event interest = {.events = EPOLLIN, .data.u32 = index};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) != 0) Fail("epoll_ctl");
}

static void Run(void) {
  static struct epoll_event events[kBatch];
  bool done = false;
  while (!done) {
    int ready = epoll_wait(epoll, events, kBatch, -1);
    if (ready < 0) Fail("epoll_wait");
    for (int i = 0; i < ready; i++) done = OnReadable(events[i].data.u32);
  }
}

int main(int argc, char** argv) {
  Prepare(argc, argv);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < idle; i++) Watch(idle_ends[i], pairs);
  for (int i = 0; i < pairs; i++) Watch(read_ends[i], i);
  return Measure(Run);
}
