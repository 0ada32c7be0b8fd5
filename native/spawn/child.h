// What runs between the birth of a child and its exec. It may share the parent's memory, so it allocates nothing,
// takes no lock, calls no libc function that does, and leaves nothing changed but its own stack and the report.
#pragma once

#include <cstdint>

#include "spawn/plan.h"

namespace forkbeard {

struct SpawnReport {
  volatile int32_t error;  // 0, or a positive errno
  volatile int32_t step;
  volatile int32_t fd;
};

// How descriptors that the child shall not have are closed. Each falls back to the next where the kernel refuses.
enum class SpawnClosing { kRange, kScan, kLoop };

struct SpawnChild {
  SpawnPlan* plan;  // `source` of its descriptors may change
  pid_t parent;
  SpawnReport* report;
  // Where the report is written to when memory is not shared: a close-on-exec pipe. -1 otherwise.
  int status_pipe;
  // The descriptor table is the parent's own as yet (CLONE_FILES).
  bool shares_descriptors;
  SpawnClosing closing;
};

// Runs the plan. `argument` is a SpawnChild; the signature is what clone(2) wants. Never returns.
int RunSpawnChild(void* argument);

}  // namespace forkbeard
