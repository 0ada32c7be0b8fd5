// The hello-world HTTP server on epoll(7) itself: it looks for the ends of requests and answers each of them.
#include "server.h"

static const char kResponse[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";
static const char kEnd[] = "\r\n\r\n";
enum { kResponseBytes = sizeof kResponse - 1 };

static void OnBytes(int fd, const char* bytes, size_t length) {
  int matched = connections[fd].matched, requests = 0;
  for (size_t i = 0; i < length; i++) {
    if (bytes[i] == kEnd[matched]) {
      if (++matched == 4) {
        matched = 0;
        requests++;
      }
    } else {
      matched = bytes[i] == '\r';
    }
  }
  connections[fd].matched = matched;
  if (requests == 1) return Answer(fd, kResponse, kResponseBytes);
  if (requests == 0) return;
  char* responses = malloc((size_t)requests * kResponseBytes);
  for (int i = 0; i < requests; i++) memcpy(responses + i * kResponseBytes, kResponse, kResponseBytes);
  Answer(fd, responses, (size_t)requests * kResponseBytes);
  free(responses);
}
