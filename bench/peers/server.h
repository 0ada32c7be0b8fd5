// What the C servers share: a listening socket on 127.0.0.1 whose port is told on stdout, one epoll set, and per
// connection the bytes that the kernel did not take yet. Level-triggered, one read a readiness. A server supplies
// OnBytes, which answers what was read by calling Answer.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kBatch = 1024, kBuffer = 65536 };

struct connection {
  char* unsent;
  size_t unsent_bytes;
  int matched;  // for a parser: how much of a terminator has been seen
};

static int epoll;
static struct connection* connections;  // by descriptor

static void OnBytes(int fd, const char* bytes, size_t length);

static void Fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static void Watch(int operation, int fd, unsigned events) {
  struct epoll_event interest = {.events = events, .data.fd = fd};
  if (epoll_ctl(epoll, operation, fd, &interest) != 0) Fail("epoll_ctl");
}

static void Hangup(int fd) {
  free(connections[fd].unsent);
  connections[fd] = (struct connection){0};
  close(fd);
}

// While something is unsent nothing is read, so there is never a second answer behind it.
static void Answer(int fd, const char* bytes, size_t length) {
  ssize_t sent = write(fd, bytes, length);
  if (sent == (ssize_t)length) return;
  if (sent < 0 && errno != EAGAIN) return;  // the next read says what happened
  if (sent < 0) sent = 0;
  struct connection* connection = &connections[fd];
  connection->unsent_bytes = length - sent;
  connection->unsent = malloc(connection->unsent_bytes);
  memcpy(connection->unsent, bytes + sent, connection->unsent_bytes);
  Watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
}

static void OnWritable(int fd) {
  struct connection* connection = &connections[fd];
  ssize_t sent = write(fd, connection->unsent, connection->unsent_bytes);
  if (sent < 0 && errno == EAGAIN) return;
  if (sent < 0) return Hangup(fd);
  connection->unsent_bytes -= sent;
  memmove(connection->unsent, connection->unsent + sent, connection->unsent_bytes);
  if (connection->unsent_bytes > 0) return;
  free(connection->unsent);
  connection->unsent = NULL;
  Watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void OnReadable(int fd) {
  static char buffer[kBuffer];
  ssize_t bytes = read(fd, buffer, kBuffer);
  if (bytes > 0) return OnBytes(fd, buffer, bytes);
  if (bytes < 0 && errno == EAGAIN) return;
  Hangup(fd);
}

static void OnConnections(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    Watch(EPOLL_CTL_ADD, fd, EPOLLIN);
  }
}

int main(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  connections = calloc(limit.rlim_max, sizeof *connections);

  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr*)&address, size) != 0 || listen(listener, 1024) != 0) Fail("listen");
  getsockname(listener, (struct sockaddr*)&address, &size);
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);

  epoll = epoll_create1(EPOLL_CLOEXEC);
  Watch(EPOLL_CTL_ADD, listener, EPOLLIN);
  static struct epoll_event events[kBatch];
  for (;;) {
    int ready = epoll_wait(epoll, events, kBatch, -1);
    if (ready < 0) Fail("epoll_wait");
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        OnConnections(fd);
      } else if (connections[fd].unsent != NULL) {
        OnWritable(fd);
      } else {
        OnReadable(fd);
      }
    }
  }
}
