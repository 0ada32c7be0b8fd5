// The parent's Node handles in a forked child: what is behind them leads nowhere, under the same numbers. Called by
// process.cc before any JavaScript runs there. None of the handles is closed, because JavaScript still holds them.
#pragma once

#include <uv.h>

#include <span>
#include <vector>

#include "fd.h"
#include "fork/request.h"

namespace forkbeard {

// What takes the place of the parent's sockets: open, never readable, never writable, and without an end.
class Silence {
 public:
  int Open();
  int fd() const { return own_.get(); }
  int peer() const { return peer_; }

 private:
  Fd own_;
  int peer_ = -1;
};

class ParentHandles {
 public:
  explicit ParentHandles(const ForkRequest& request) : request_(request) {}

  // Before the loop is the child's own. 0 or a negative errno.
  int CutOff(uv_loop_t* loop);
  // When it is: the handles of named descriptors let go of them. Nothing happens on them any more, and the numbers are
  // free for handles that the child makes.
  void Release();

  // Numbers that belong to handles, cut off or not.
  std::span<const int> numbers() const { return numbers_; }
  int silence_peer() const { return silence_.peer(); }
  // Requests of the parent's that libuv still ends in the child, see ForgetWrites.
  unsigned forgotten_writes() const { return forgotten_writes_; }

 private:
  void Visit(uv_handle_t* handle);
  void Cut(uv_handle_t* handle, int fd);
  int OpenSilence() { return silence_.fd() >= 0 ? 0 : silence_.Open(); }
  int OpenEnded();

  const ForkRequest& request_;
  Silence silence_;
  Fd ended_;
  std::vector<int> numbers_;
  std::vector<int> gone_;
  std::vector<uv_handle_t*> released_;
  unsigned forgotten_writes_ = 0;
  int error_ = 0;
};

}  // namespace forkbeard
