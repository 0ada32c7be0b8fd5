// The shim's conversation with its supervisor, over a stream socket. Both ways the same frames: the length of the body
// (32 bits, little-endian), a letter that says what it is, the body. What the supervisor sends:
//
//   P  the plan, once: sections, each preceded by its length (plan.h)
//   K  a signal: number, and whom (0 the service's first process, 1 everything of the service)
//   S  stop: rows of signal and milliseconds to wait after it; the next row is for what is left then
//   E  extend: the step that is under way lasts so many milliseconds from now, if that is longer than it would
//   R  it is ready: kept for a supervisor that comes back
//   B  a beat: the lease begins anew
//   T  its traces have gone from their paths: it makes them anew
//   D  done: the end was heard, the shim may go
//
// and what the shim sends: J, a JSON object with an `event`, and O, output of the service: a byte for the descriptor,
// then what was written, and F, once and before all else to a supervisor that comes back: the sockets that the service
// was given, beside it (SCM_RIGHTS). lib/supervisor/shim.ts is the other side.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fd.h"

namespace forkbeard::shim {

struct Frame {
  char kind;
  std::string body;
};

// One connection to a supervisor; there may be none. Nothing here blocks.
class Wire {
 public:
  Wire() = default;
  explicit Wire(Fd fd) : fd_(std::move(fd)) {}

  bool open() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }
  void Close();

  // Takes in what has arrived. False at the end of the connection, or when what arrives is no frame.
  bool Receive();
  // The next frame that has arrived whole.
  bool Next(Frame* frame);

  void Send(char kind, const std::string& body);
  // The first frame of a connection, with descriptors beside it, which stay ours. Nothing is sent when it cannot be.
  void SendDescriptors(const std::vector<Fd>& fds);
  // What could not be sent yet. False when the other end is gone.
  bool Flush();
  size_t unsent() const { return out_.size(); }

 private:
  Fd fd_;
  std::string in_;
  std::string out_;
};

}  // namespace forkbeard::shim
