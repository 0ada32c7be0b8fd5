// What a supervisor wants of its shim, as it comes in a P frame: seven sections that say what program to start, as for
// any spawn (spawn/request.h), and one of strings, `name=value`, about the life that it shall have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spawn/request.h"

namespace forkbeard::shim {

struct Step {
  int signal;
  int64_t wait;  // ms
};

struct Plan {
  StringBlock arguments, environment, candidates, directory, paths;
  std::vector<int32_t> rows;
  SpawnPlan spawn;
  SpawnPipes pipes;

  // Of the state directory; empty: none.
  std::string lock;
  std::string record;
  // The record's text, up to what only the shim knows.
  std::string record_head;
  // Lives on without its supervisor, until the lease is over (0: for ever). Otherwise it ends with it.
  bool independent = false;
  int64_t lease = 0;
  // Listens for supervisors that come back. -1: none.
  int listener = -1;
  std::string listener_path;
  // Where the socket was bound: it is put in its place by who has the lock, so that no starter is in another's way.
  std::string listener_made;
  // Told to supervisors that come back.
  std::string run;
  // Of what it says, in a second. 0: as much as it likes.
  int64_t most_bytes = 0;
  int64_t most_lines = 0;
  // What is done when nobody is there to say.
  std::vector<Step> orphaned;
};

// False when it is not a plan. Opens nothing.
bool ReadPlan(const std::string& body, Plan* plan);

// The rows of an S frame, or of the plan's `orphaned`.
bool ReadSteps(const std::string& body, std::vector<Step>* steps);

}  // namespace forkbeard::shim
