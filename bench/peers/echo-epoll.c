// The echo server on epoll(7) itself.
#include "server.h"

static void OnBytes(int fd, const char* bytes, size_t length) { Answer(fd, bytes, length); }
