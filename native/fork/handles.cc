#include "fork/handles.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "descriptors.h"
#include "fork/links.h"

namespace forkbeard {

namespace {

int Replace(int with, int number) {
#if defined(__linux__)
  return dup3(with, number, O_CLOEXEC) < 0 ? -errno : 0;
#else
  if (dup2(with, number) < 0) return -errno;
  return SetCloseOnExec(number, true);
#endif
}

bool IsListening(int fd) {
  int on = 0;
  socklen_t size = sizeof on;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on != 0;
}

// What uv__io_stop and a descriptor of -1 make of a handle: as if it had not been opened yet. libuv offers no call for
// it, but the fields are in its header, and their places are a part of its ABI.
void Detach(uv_loop_t* loop, uv__io_t* watcher) {
  auto fd = static_cast<unsigned>(watcher->fd);
  if (watcher->fd >= 0 && fd < loop->nwatchers && loop->watchers[fd] == watcher) {
    loop->watchers[fd] = nullptr;
    loop->nfds--;
  }
  Unlink(&watcher->watcher_queue);
  Unlink(&watcher->pending_queue);
  watcher->pevents = 0;
  watcher->events = 0;
  watcher->fd = -1;
}

// Whatever the parent has still to write here is the parent's. It counts as written, so that the stream can go on with
// what the child writes: libuv calls back in its next turn. How many requests these are.
unsigned ForgetWrites(uv_stream_t* stream) {
  unsigned count = 0;
  auto* queue = reinterpret_cast<Links*>(&stream->write_queue);
  auto* completed = reinterpret_cast<Links*>(&stream->write_completed_queue);
  while (queue->next != queue) {
    Links* first = queue->next;
    WriteOf(first)->error = 0;
    Unlink(first);
    Append(completed, first);
  }
  for (Links* one = completed->next; one != completed; one = one->next) count++;
  auto* pending = reinterpret_cast<Links*>(&stream->io_watcher.pending_queue);
  if (count > 0 && pending->next == pending) {
    Append(reinterpret_cast<Links*>(&stream->loop->pending_queue), pending);
  }
  return count;
}

}  // namespace

int ParentHandles::CutOff(uv_loop_t* loop) {
  // Before anything is opened, which would take the first of these numbers.
  uv_walk(
      loop,
      [](uv_handle_t* handle, void* self) {
        int fd;
        if (handle->type != UV_POLL || uv_fileno(handle, &fd) != 0 || fcntl(fd, F_GETFD) >= 0) return;
        static_cast<ParentHandles*>(self)->gone_.push_back(fd);
      },
      this);
  uv_walk(
      loop, [](uv_handle_t* handle, void* self) { static_cast<ParentHandles*>(self)->Visit(handle); }, this);
  return error_;
}

void ParentHandles::Release() {
  for (uv_handle_t* handle : released_) {
    if (handle->type == UV_POLL) {
      uv_poll_stop(reinterpret_cast<uv_poll_t*>(handle));
    } else if (handle->type == UV_UDP) {
      Detach(handle->loop, &reinterpret_cast<uv_udp_t*>(handle)->io_watcher);
    } else {
      Detach(handle->loop, &reinterpret_cast<uv_stream_t*>(handle)->io_watcher);
    }
  }
}

void ParentHandles::Visit(uv_handle_t* handle) {
  int fd = -1;
  switch (handle->type) {
    case UV_TCP:
    case UV_NAMED_PIPE:
    case UV_TTY:
    case UV_UDP:
    case UV_POLL:
      if (uv_fileno(handle, &fd) != 0) return;
      // A child has no kqueue, so there is nothing to cut off. Those of our loops are about to be closed.
      if (std::ranges::find(gone_, fd) != gone_.end()) break;
      numbers_.push_back(fd);
      if (request_.Names(fd) && fd > 2) {
        released_.push_back(handle);
        break;
      }
      // A terminal is opened anew by libuv and stands for 0, 1 or 2, which stay. What the parent reads from them is
      // the parent's.
      if (handle->type == UV_TTY || fd <= 2) {
        if (handle->type != UV_UDP && handle->type != UV_POLL) {
          uv_read_stop(reinterpret_cast<uv_stream_t*>(handle));
          forgotten_writes_ += ForgetWrites(reinterpret_cast<uv_stream_t*>(handle));
        }
      } else {
        Cut(handle, fd);
      }
      break;
    case UV_FS_EVENT:
      uv_fs_event_stop(reinterpret_cast<uv_fs_event_t*>(handle));
      break;
    case UV_FS_POLL:
      uv_fs_poll_stop(reinterpret_cast<uv_fs_poll_t*>(handle));
      break;
    case UV_SIGNAL:
      // Stopped by JavaScript, with the listeners: Node counts on the handle to know its signal when it closes it.
    case UV_PROCESS:
    case UV_ASYNC:
      break;
    default:
      // Timers are V8's and Node's own, and so are the handles of a turn's phases.
      return;
  }
  uv_unref(handle);
}

void ParentHandles::Cut(uv_handle_t* handle, int fd) {
  bool end = request_.Has(kCloseHandles) && (handle->type == UV_TCP || handle->type == UV_NAMED_PIPE) &&
             !IsListening(fd);
  int error = end ? OpenEnded() : OpenSilence();
  if (error == 0) error = Replace(end ? ended_.get() : silence_.fd(), fd);
  if (error < 0) error_ = error;
  // What is done, and waits for the next turn to tell so.
  if (handle->type == UV_UDP) Unlink(&reinterpret_cast<uv_udp_t*>(handle)->io_watcher.pending_queue);
  if (handle->type == UV_TCP || handle->type == UV_NAMED_PIPE) {
    Unlink(&reinterpret_cast<uv_stream_t*>(handle)->io_watcher.pending_queue);
  }
}

int ParentHandles::OpenEnded() {
  if (ended_) return 0;
  int pair[2];
  if (int error = MakeSocketPair(SOCK_STREAM, pair); error < 0) return error;
  ended_ = Fd(pair[0]);
  ::close(pair[1]);
  return 0;
}

int Silence::Open() {
  int pair[2];
  if (int error = MakeSocketPair(SOCK_STREAM, pair); error < 0) return error;
  own_ = Fd(pair[0]);
  // Stays open until this process ends: without a peer there would be a hangup.
  peer_ = pair[1];
  int least = 1;
  setsockopt(own_.get(), SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
  char filler[4096] = {};
  while (send(own_.get(), filler, sizeof filler, MSG_NOSIGNAL) > 0) {
  }
  // A small rest may fit where a large piece did not.
  while (send(own_.get(), filler, 1, MSG_NOSIGNAL) > 0) {
  }
  return 0;
}

}  // namespace forkbeard
