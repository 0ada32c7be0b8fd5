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

// A socket with a port of its own on loopback.
struct Bound {
  explicit Bound(int type = SOCK_STREAM) : fd(socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  }
  // What connect(2) says.
  int Reach(int client) const {
    return connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  int fd;
  sockaddr_in address = {};
};

struct Listener : Bound {
  Listener() { CHECK(listen(fd, 8) == 0); }
};

// Both ends of a TCP connection over loopback.
struct Tcp {
  Tcp() {
    Listener listener;
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener.Reach(client) == 0);
    server = accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC);
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(server, F_SETFL, O_NONBLOCK);
    close(listener.fd);
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
