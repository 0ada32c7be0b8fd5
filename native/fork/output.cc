#include "fork/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "fd.h"
#include "fork/links.h"

namespace forkbeard {

namespace {

// A pipe that is ready takes as much at once, unless somebody else was faster.
constexpr size_t kPiece = PIPE_BUF;

// The pipe or terminal of a descriptor once more, so that writing never waits: whether the descriptor itself does is
// decided by whoever shares it, and what poll saw room for may be somebody else's by now. -1: there is no second way in.
int OpenAgain(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !(S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode))) return -1;
  char path[sizeof "/dev/fd/" + 12];
  (void)snprintf(path, sizeof path, "/dev/fd/%d", fd);
  return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

enum class State : uint8_t { kGoesOn, kStuck, kGone };

class Output {
 public:
  Output(int fd, uint64_t patience, uint64_t deadline) : fd_(fd), patience_(patience), deadline_(deadline) {}

  void Write(const uint8_t* bytes, size_t length) {
    while (length > 0 && state_ == State::kGoesOn) {
      ssize_t count = Wait() ? Put(bytes, std::min(length, kPiece)) : 0;
      if (count < 0 && errno != EAGAIN && errno != EINTR) state_ = State::kGone;
      if (count <= 0) continue;
      bytes += count;
      length -= static_cast<size_t>(count);
      progress_ = uv_hrtime();
    }
    lost_ += length;
  }

  size_t lost() const { return state_ == State::kStuck ? lost_ : 0; }

 private:
  // Whether there is room. False as well when a signal came, and when it is of no use to wait any longer.
  bool Wait() {
    const uint64_t now = uv_hrtime();
    const uint64_t until = std::min(progress_ + patience_, deadline_);
    struct pollfd place = {fd_, POLLOUT, 0};
    const uint64_t ms = until > now ? (until - now) / 1'000'000 + 1 : 0;
    int ready = poll(&place, 1, static_cast<int>(std::min<uint64_t>(ms, INT_MAX)));
    // The error is for the write to tell.
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) state_ = State::kGone;
    if (ready == 0 && ms == 0) state_ = State::kStuck;
    return false;
  }

  ssize_t Put(const uint8_t* bytes, size_t length) {
    ssize_t count = send(fd_, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0 || errno != ENOTSOCK) return count;
    return write(again_.get() >= 0 ? again_.get() : fd_, bytes, length);
  }

  const int fd_;
  const Fd again_{OpenAgain(fd_)};
  const uint64_t patience_;
  const uint64_t deadline_;
  uint64_t progress_ = uv_hrtime();
  State state_ = State::kGoesOn;
  size_t lost_ = 0;
};

struct Search {
  int fd;
  bool terminal;  // libuv opens those anew, under numbers of their own
  uv_stream_t* found;
};

uv_stream_t* StreamOn(uv_loop_t* loop, int fd, bool terminal) {
  Search search = {fd, terminal, nullptr};
  uv_walk(
      loop,
      [](uv_handle_t* handle, void* data) {
        auto* wanted = static_cast<Search*>(data);
        int own = -1;
        bool writes = handle->type == UV_NAMED_PIPE || handle->type == UV_TCP || handle->type == UV_TTY;
        if (!writes || uv_fileno(handle, &own) != 0) return;
        if (own != wanted->fd && !(wanted->terminal && handle->type == UV_TTY)) return;
        wanted->found = reinterpret_cast<uv_stream_t*>(handle);
      },
      &search);
  return search.found;
}

}  // namespace

OutputKind KindOfOutput(uv_loop_t* loop, int fd) {
  const uv_handle_type type = uv_guess_handle(fd);
  if (StreamOn(loop, fd, type == UV_TTY) != nullptr) return OutputKind::kStream;
  return type == UV_FILE ? OutputKind::kFile : OutputKind::kNone;
}

size_t FinishOutput(uv_loop_t* loop, int fd, std::span<const uint8_t> rest, uint64_t patience,
                    uint64_t deadline) {
  Output output(fd, patience, deadline);
  if (uv_stream_t* stream = StreamOn(loop, fd, false); stream != nullptr) {
    auto* queue = reinterpret_cast<Links*>(&stream->write_queue);
    while (queue->next != queue) {
      Links* first = queue->next;
      const uv_write_t* request = WriteOf(first);
      // libuv moves the bases of what it has written in part.
      for (unsigned i = request->write_index; i < request->nbufs; i++) {
        output.Write(reinterpret_cast<const uint8_t*>(request->bufs[i].base), request->bufs[i].len);
      }
      Unlink(first);
    }
  }
  output.Write(rest.data(), rest.size());
  return output.lost();
}

}  // namespace forkbeard
