// What both test programs make of the kernel to watch: pipes, pairs and connections that check their own making. Nobody
// closes them; the program of a test ends with it.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

namespace check {

struct Pipe {
  Pipe() { CHECK(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0); }
  int ends[2];
  int read() const { return ends[0]; }
  int write() const { return ends[1]; }
};

struct Pair {
  explicit Pair(int type = SOCK_STREAM) {
    CHECK(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  }
  int ends[2];
};

// Both ends of a TCP connection over loopback.
struct Tcp {
  Tcp() {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener, 8) == 0);
    CHECK(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), size) == 0);
    server = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(server, F_SETFL, O_NONBLOCK);
    close(listener);
  }
  int client;
  int server;
};

inline void Fill(int fd, const char* bytes) {
  CHECK(write(fd, bytes, strlen(bytes)) == static_cast<ssize_t>(strlen(bytes)));
}

inline void Empty(int fd) {
  char buffer[65536];
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
}

}  // namespace check
