// Prints the CPU time of a process, all threads, in nanoseconds: … pid
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char** argv) {
  clockid_t clock;
  struct timespec now;
  if (argc != 2) return 2;
  errno = clock_getcpuclockid(atoi(argv[1]), &clock);
  if (errno != 0 || clock_gettime(clock, &now) != 0) {
    perror("cpu-clock");
    return 1;
  }
  printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
  return 0;
}
