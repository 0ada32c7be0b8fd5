// Load for the echo servers: `connections` TCP connections to 127.0.0.1:port, on each of them one message of `size` bytes
// under way at any time. After `warmup` seconds it counts, for `duration` seconds, the messages that came back whole and
// unchanged, and reads the CPU clock of the server's process at both ends. Prints one line of JSON.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kBatch = 1024, kMaxSize = 65536 };

static char message[kMaxSize], answer[kMaxSize];

static void Fail(const char* what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double Seconds(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now) != 0) Fail("clock_gettime");
  return now.tv_sec + now.tv_nsec / 1e9;
}

static int Connect(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) != 0) Fail("connect");
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) Fail("fcntl");
  return fd;
}

int main(int argc, char** argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: %s port connections size warmup duration server-pid\n", argv[0]);
    return 2;
  }
  int port = atoi(argv[1]), connections = atoi(argv[2]), size = atoi(argv[3]);
  double warmup = atof(argv[4]), duration = atof(argv[5]);
  clockid_t server_clock;
  if (size < 1 || size > kMaxSize) return 2;
  errno = clock_getcpuclockid(atoi(argv[6]), &server_clock);
  if (errno != 0) Fail("clock_getcpuclockid");
  for (int i = 0; i < size; i++) message[i] = 'a' + i % 26;

  int epoll = epoll_create1(EPOLL_CLOEXEC), highest = 0;
  int* fds = malloc(sizeof(int) * connections);
  for (int i = 0; i < connections; i++) {
    fds[i] = Connect(port);
    if (fds[i] > highest) highest = fds[i];
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = fds[i]};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &interest) != 0) Fail("epoll_ctl");
  }
  int* received = calloc(highest + 1, sizeof(int));
  for (int i = 0; i < connections; i++) {
    if (write(fds[i], message, size) != size) Fail("write");
  }

  static struct epoll_event events[kBatch];
  double begin = Seconds(CLOCK_MONOTONIC), start = 0, now, server = 0, client = 0;
  long messages = 0;
  while ((now = Seconds(CLOCK_MONOTONIC)) < begin + warmup + duration) {
    if (start == 0 && now >= begin + warmup) {
      start = now;
      messages = 0;
      server = Seconds(server_clock);
      client = Seconds(CLOCK_PROCESS_CPUTIME_ID);
    }
    int ready = epoll_wait(epoll, events, kBatch, 1000);
    if (ready < 0) Fail("epoll_wait");
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      ssize_t bytes = read(fd, answer, size - received[fd]);
      if (bytes <= 0) Fail("read");
      if (memcmp(answer, message + received[fd], bytes) != 0) Fail("another answer than was sent");
      received[fd] += bytes;
      if (received[fd] < size) continue;
      received[fd] = 0;
      messages++;
      if (write(fd, message, size) != size) Fail("write");
    }
  }
  printf("{\"requests\":%ld,\"seconds\":%.6f,\"serverCpu\":%.9f,\"clientCpu\":%.9f}\n", messages, now - start,
         Seconds(server_clock) - server, Seconds(CLOCK_PROCESS_CPUTIME_ID) - client);
  return 0;
}
