// Forks in C, and has the child say when it runs. Arguments: how many, megabytes of memory in all.
#include "fork.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int count = atoi(argv[1]);
  size_t ballast = (size_t)atoi(argv[2]) << 20;
  char* memory = malloc(ballast + 1);
  memset(memory, 1, ballast + 1);
  double* first = calloc(count, sizeof *first);
  double* blocked = calloc(count, sizeof *blocked);
  int ends[2];
  if (pipe(ends) < 0) return 1;
  for (int i = -2; i < count; i++) {
    double before = Now(), then;
    pid_t pid = fork();
    if (pid == 0) {
      then = Now();
      _exit(write(ends[1], &then, sizeof then) != sizeof then);
    }
    double after = Now();
    if (pid < 0 || read(ends[0], &then, sizeof then) != sizeof then || waitpid(pid, NULL, 0) < 0) return 1;
    if (i >= 0) {
      first[i] = then - before;
      blocked[i] = after - before;
    }
  }
  printf("{\"first\":%f,\"tail\":%f,\"blocked\":%f}\n", Quantile(first, count, 0.5),
         Quantile(first, count, 0.99), Quantile(blocked, count, 0.5));
  return memory[ballast] - 1;
}
