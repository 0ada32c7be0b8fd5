// A few lines of test harness for native programs. `program` alone lists its tests, `program "name"` runs one
// and exits with 0 if every check held; what did not is on stderr. test/native/kqueue.test.ts runs them one
// by one.
#pragma once

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

inline int failures = 0;

inline void Report(bool held, const char* expression, const char* file, int line) {
  if (held) return;
  failures++;
  fprintf(stderr, "%s:%d: %s (errno %d)\n", file, line, expression, errno);
}

inline int64_t NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

inline bool IsReadable(int fd) {
  pollfd state = {fd, POLLIN, 0};
  return poll(&state, 1, 0) == 1;
}

inline int Main(int argc, char** argv) {
  for (const Test& test : Tests()) {
    if (argc < 2) {
      puts(test.name);
    } else if (strcmp(test.name, argv[1]) == 0) {
      test.run();
      return failures == 0 ? 0 : 1;
    }
  }
  return argc < 2 ? 0 : 2;
}

}  // namespace check

#define CHECK(expression) check::Report(static_cast<bool>(expression), #expression, __FILE__, __LINE__)
#define CHECK_JOIN(name, line) name##line
#define CHECK_TEST(name, line)                                          \
  static void CHECK_JOIN(Test, line)();                                 \
  static const bool CHECK_JOIN(known, line) =                           \
      (check::Tests().push_back({name, CHECK_JOIN(Test, line)}), true); \
  static void CHECK_JOIN(Test, line)()
#define CHECK_TEST_AT(name, line) CHECK_TEST(name, line)
#define TEST(name) CHECK_TEST_AT(name, __LINE__)
