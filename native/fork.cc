#include "fork.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "child.h"
#include "descriptors.h"
#include "fd.h"
#include "js.h"
#include "loop.h"
#include "signals.h"
#include "v8/fork_hooks.h"

namespace forkbeard {

namespace {

// How long one try may wait for V8's threads while JavaScript stands still.
constexpr int64_t kOneTry = 25'000'000;
// Turns of Node's loop that we wait for one without immediates, before these are silenced in the child instead.
constexpr int kQuietTurns = 32;

enum Flags : uint32_t {
  kKeepSignals = 1,
  // The parent's connections see their end in the child, instead of nothing at all.
  kCloseHandles = 2,
  // Descriptors that are not named are closed.
  kListed = 4,
};

struct Request {
  uint32_t flags = 0;
  std::vector<int> named;  // descriptors that stay as they are
};

struct Outcome {
  pid_t pid = -1;  // 0 in the child; a negative errno when there is none
  Fd report;       // the parent's end of the pipe on which the child says that it lives
};

class ForkPoint;

// What the addon keeps of forks for one environment.
struct Forks {
  explicit Forks(napi_env environment) : env(environment) {}

  napi_env env;
  uv_loop_t* loop = nullptr;
  const ForkHooks* hooks = nullptr;
  std::vector<ForkPoint*> waiting;
  int last_own_fd = 2;  // of the descriptors that Node opened for itself when it started
  Fd report;            // in a child, until it has reported
};

// ------------------------------------------------------------------------------------------- descriptors

bool Contains(std::span<const int> numbers, int number) {
  return std::ranges::find(numbers, number) != numbers.end();
}

// What takes the place of the parent's sockets: open, never readable, never writable, and without an end.
class Silence {
 public:
  int Open() {
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
  int fd() const { return own_.get(); }
  int peer() const { return peer_; }

 private:
  Fd own_;
  int peer_ = -1;
};

int Replace(int with, int number) {
#if defined(__linux__)
  return dup3(with, number, O_CLOEXEC) < 0 ? -errno : 0;
#else
  if (dup2(with, number) < 0) return -errno;
  return SetCloseOnExec(number, true);
#endif
}

// The handles of the parent, in the child. None of them is closed: JavaScript still holds them.
class Handles {
 public:
  explicit Handles(const Request& request) : request_(request) {}

  // 0 or a negative errno.
  int CutOff(uv_loop_t* loop) {
    // Before anything is opened, which would take the first of these numbers.
    uv_walk(
        loop,
        [](uv_handle_t* handle, void* self) {
          int fd;
          if (handle->type != UV_POLL || uv_fileno(handle, &fd) != 0 || fcntl(fd, F_GETFD) >= 0) return;
          static_cast<Handles*>(self)->gone_.push_back(fd);
        },
        this);
    uv_walk(loop, [](uv_handle_t* handle, void* self) { static_cast<Handles*>(self)->Visit(handle); }, this);
    return error_;
  }
  // When the loop is the child's own: the handles of named descriptors let go of them. Nothing happens on them any more,
  // and the numbers are free for handles that the child makes.
  void Release() {
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
  // Numbers that belong to handles, cut off or not.
  std::span<const int> numbers() const { return numbers_; }
  int silence_peer() const { return silence_.peer(); }

 private:
  void Visit(uv_handle_t* handle) {
    int fd = -1;
    switch (handle->type) {
      case UV_TCP:
      case UV_NAMED_PIPE:
      case UV_TTY:
      case UV_UDP:
      case UV_POLL:
        if (uv_fileno(handle, &fd) != 0) return;
        // A child has no kqueue, so there is nothing to cut off. Those of our loops are about to be closed.
        if (Contains(gone_, fd)) break;
        numbers_.push_back(fd);
        if (Contains(request_.named, fd) && fd > 2) {
          released_.push_back(handle);
          break;
        }
        // A terminal is opened anew by libuv and stands for 0, 1 or 2, which stay. What the parent reads from them is
        // the parent's.
        if (handle->type == UV_TTY || fd <= 2) {
          if (handle->type != UV_UDP && handle->type != UV_POLL) {
            uv_read_stop(reinterpret_cast<uv_stream_t*>(handle));
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

  // What uv__io_stop and a descriptor of -1 make of a handle: as if it had not been opened yet. libuv offers no call for
  // it, but the fields are in its header, and their places are a part of its ABI.
  static void Detach(uv_loop_t* loop, uv__io_t* watcher) {
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
  // A node of libuv's lists: next and previous. One of its own is in none.
  template <class Node>
  static void Unlink(Node* node) {
    struct Links {
      Links* next;
      Links* previous;
    };
    static_assert(sizeof(Links) == sizeof(Node));
    auto* links = reinterpret_cast<Links*>(node);
    links->next->previous = links->previous;
    links->previous->next = links->next;
    links->next = links->previous = links;
  }

  void Cut(uv_handle_t* handle, int fd) {
    bool end = (request_.flags & kCloseHandles) != 0 &&
               (handle->type == UV_TCP || handle->type == UV_NAMED_PIPE) && !IsListening(fd);
    int error = end ? OpenEnded() : OpenSilence();
    if (error == 0) error = Replace(end ? ended_.get() : silence_.fd(), fd);
    if (error < 0) error_ = error;
  }
  static bool IsListening(int fd) {
    int on = 0;
    socklen_t size = sizeof on;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on != 0;
  }
  int OpenSilence() { return silence_.fd() >= 0 ? 0 : silence_.Open(); }
  int OpenEnded() {
    if (ended_) return 0;
    int pair[2];
    if (int error = MakeSocketPair(SOCK_STREAM, pair); error < 0) return error;
    ended_ = Fd(pair[0]);
    ::close(pair[1]);
    return 0;
  }

  const Request& request_;
  Silence silence_;
  Fd ended_;
  std::vector<int> numbers_;
  std::vector<int> gone_;
  std::vector<uv_handle_t*> released_;
  int error_ = 0;
};

// A list of descriptors was given: the others go, without those that Node and its threads live on.
class Unlisted {
 public:
  // `keep` beside the request's own.
  static void Close(const Forks& forks, const Request& request, std::span<const int> keep) {
    std::vector<Entry> entries;
    DIR* listing = opendir("/proc/self/fd");
    if (listing == nullptr) return;
    while (dirent* item = readdir(listing)) {
      Entry entry;
      entry.fd = atoi(item->d_name);
      if (item->d_name[0] == '.' || entry.fd <= 2 || entry.fd == dirfd(listing)) continue;
      char link[64];
      char target[PATH_MAX];
      snprintf(link, sizeof link, "/proc/self/fd/%d", entry.fd);
      ssize_t length = readlink(link, target, sizeof target);
      if (length < 0) continue;
      std::string_view name(target, static_cast<size_t>(length));
      entry.is_kernel_object = name.starts_with("anon_inode:");
      entry.is_pipe = name.starts_with("pipe:");
      entry.is_null = name == "/dev/null";
      struct stat status = {};
      if (fstat(entry.fd, &status) == 0) entry.inode = status.st_ino;
      entries.push_back(entry);
    }
    closedir(listing);
    for (const Entry& entry : entries) {
      if (Contains(request.named, entry.fd) || Contains(keep, entry.fd)) continue;
      if (IsNodes(entry, entries, forks.last_own_fd)) continue;
      ::close(entry.fd);
    }
  }

 private:
  struct Entry {
    int fd = -1;
    ino_t inode = 0;
    bool is_kernel_object = false;
    bool is_pipe = false;
    bool is_null = false;
  };
  // Sets of epoll, wake-ups and the like are made by event loops only, and all but libuv's were closed before. Its
  // pipes have both ends here, and are among the first descriptors of the process, as is /dev/null.
  static bool IsNodes(const Entry& entry, std::span<const Entry> all, int last_own_fd) {
    if (entry.is_kernel_object) return true;
    if (entry.fd > last_own_fd) return false;
    if (entry.is_null) return true;
    if (!entry.is_pipe) return false;
    return std::ranges::count_if(all, [&](const Entry& other) { return other.inode == entry.inode; }) >= 2;
  }
};

// --------------------------------------------------------------------------------------------- signals

// Nothing of the parent's runs when this child gets a signal. What is ignored stays so.
void ResetDispositions() {
  for (int number = 1; number < NSIG; number++) {
    // V8's own handler turns bad WebAssembly accesses into exceptions; libuv's reaps what child_process starts, and
    // believes that it is there.
    if (number == SIGSEGV || number == SIGBUS || number == SIGCHLD) continue;
    struct sigaction action;
    if (sigaction(number, nullptr, &action) < 0) continue;
    bool handled =
        (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
    if (!handled) continue;
    struct sigaction none = {};
    none.sa_handler = SIG_DFL;
    sigaction(number, &none, nullptr);
  }
}

// -------------------------------------------------------------------------------------------- the fork

[[noreturn]] void EndWithReport(const Fd& report, int error) {
  while (write(report.get(), &error, sizeof error) < 0 && errno == EINTR) {
  }
  _exit(127);
}

void StopWaiting(Forks* forks);

// What must be right before the first JavaScript. All signals are blocked.
int BecomeChild(Forks* forks, const Request& request, const Fd& report) {
  if (int error = forks->hooks->child(); error < 0) return error;
  // The pidfds of what are now siblings go before anything is opened.
  ChildrenForked();
  Handles handles(request);
  if (int error = handles.CutOff(forks->loop); error < 0) return error;
  if (int error = uv_loop_fork(forks->loop); error < 0) return error;
  handles.Release();
  LoopsForked(forks->env);
  SignalsForked();
  if ((request.flags & kKeepSignals) == 0) ResetDispositions();
  // Requests in libuv's pool went with its threads, and those of cut off handles will never end.
  forks->loop->active_reqs.count = 0;
  StopWaiting(forks);
  if ((request.flags & kListed) != 0) {
    std::vector<int> keep(handles.numbers().begin(), handles.numbers().end());
    keep.push_back(handles.silence_peer());
    keep.push_back(report.get());
    Unlisted::Close(*forks, request, keep);
  }
  uv_update_time(forks->loop);
  forks->hooks->wake();
  return 0;
}

// -EBUSY: V8's threads did not come to rest in time, and no new work of theirs starts: try again, or abandon.
Outcome Fork(Forks* forks, const Request& request, int64_t patience) {
  Outcome outcome;
  // What the parent has not written yet it will write once.
  fflush(nullptr);
  int pipe[2];
  if (int error = MakePipe(pipe); error < 0) {
    outcome.pid = error;
    return outcome;
  }
  Fd read(pipe[0]), written(pipe[1]);
  if (int error = forks->hooks->prepare(patience); error < 0) {
    outcome.pid = error;
    return outcome;
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  int error = errno;
  if (pid == 0) {
    read.Reset();
    if (int failed = BecomeChild(forks, request, written); failed < 0) EndWithReport(written, failed);
    forks->report = std::move(written);
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    outcome.pid = 0;
    return outcome;
  }
  forks->hooks->parent();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  outcome.pid = pid < 0 ? -error : pid;
  if (pid > 0) outcome.report = std::move(read);
  return outcome;
}

// ------------------------------------------------------------------------------------------ the moment

// A fork that waits for the moment when no JavaScript is on the stack, nothing is queued to run, no handle is about to
// tell that it was closed, and V8's threads rest. Lives on an idle handle of Node's loop, which keeps it turning.
class ForkPoint {
 public:
  ForkPoint(Forks* forks, Request request, uint64_t deadline)
      : forks_(forks), request_(std::move(request)), deadline_(deadline) {}

  // `quiet()` tells whether JavaScript has nothing queued, `done(pid, report)` is called in both processes.
  int Start(napi_value quiet, napi_value done) {
    napi_env env = forks_->env;
    napi_value name, resource;
    napi_create_string_utf8(env, "FORKBEARD_FORK", NAPI_AUTO_LENGTH, &name);
    napi_create_object(env, &resource);
    if (napi_async_init(env, resource, name, &context_) != napi_ok) return -ENOMEM;
    napi_create_reference(env, quiet, 1, &quiet_);
    napi_create_reference(env, done, 1, &done_);
    uv_idle_init(forks_->loop, &idle_);
    idle_.data = this;
    forks_->waiting.push_back(this);
    uv_idle_start(&idle_, [](uv_idle_t* handle) { static_cast<ForkPoint*>(handle->data)->Turn(); });
    return 0;
  }

  void Stop() { uv_idle_stop(&idle_); }
  // For good; deletes itself when libuv is through with the handle.
  void Close() {
    std::erase(forks_->waiting, this);
    if (closing_) return;
    closing_ = true;
    uv_close(reinterpret_cast<uv_handle_t*>(&idle_),
             [](uv_handle_t* handle) { delete static_cast<ForkPoint*>(handle->data); });
  }

 private:
  ~ForkPoint() {
    napi_delete_reference(forks_->env, quiet_);
    napi_delete_reference(forks_->env, done_);
    napi_async_destroy(forks_->env, context_);
  }

  void Turn() {
    napi_env env = forks_->env;
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    bool late = uv_hrtime() >= deadline_;
    turns_++;
    int calm = IsCalm();
    Outcome outcome;
    outcome.pid = -EBUSY;
    // Immediates and closing handles come every turn in a busy process, and can be silenced; the rest cannot.
    if (calm == 2 || (calm == 1 && (turns_ > kQuietTurns || late))) outcome = Fork(forks_, request_, kOneTry);
    if (outcome.pid == -EBUSY && !late) {
      napi_close_handle_scope(env, scope);
      return;
    }
    if (outcome.pid == -EBUSY) forks_->hooks->abandon();
    bool child = outcome.pid == 0;
    Stop();
    Tell(std::move(outcome));
    napi_close_handle_scope(env, scope);
    Close();
    if (child) forks_->hooks->settle();
  }

  // 0: not now. 1: but for what can be silenced. 2: completely.
  int IsCalm() {
    if (forks_->loop->closing_handles != nullptr) return turns_ > kQuietTurns ? 1 : 0;
    napi_value global, quiet, answer;
    int32_t calm = 0;
    napi_get_global(forks_->env, &global);
    napi_get_reference_value(forks_->env, quiet_, &quiet);
    if (napi_call_function(forks_->env, global, quiet, 0, nullptr, &answer) != napi_ok) {
      napi_value error;
      if (napi_get_and_clear_last_exception(forks_->env, &error) == napi_ok) return 2;
      return 0;
    }
    napi_get_value_int32(forks_->env, answer, &calm);
    return calm;
  }

  void Tell(Outcome outcome) {
    napi_env env = forks_->env;
    napi_value global, done;
    napi_get_global(env, &global);
    napi_get_reference_value(env, done_, &done);
    napi_value arguments[] = {js::Int(env, outcome.pid), js::Int(env, outcome.report.Release())};
    napi_status status = napi_make_callback(env, context_, global, done, 2, arguments, nullptr);
    if (status != napi_pending_exception) return;
    napi_value error;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }

  Forks* const forks_;
  const Request request_;
  const uint64_t deadline_;  // uv_hrtime
  uv_idle_t idle_;
  napi_async_context context_ = nullptr;
  napi_ref quiet_ = nullptr;
  napi_ref done_ = nullptr;
  int turns_ = 0;
  bool closing_ = false;
};

// Forks that others asked for are the parent's to make.
void StopWaiting(Forks* forks) {
  for (ForkPoint* point : std::vector(forks->waiting)) point->Stop();
  forks->waiting.clear();
}

// ---------------------------------------------------------------------------------- what JavaScript sees

template <size_t N>
Forks* Of(const js::Call<N>& call) {
  return static_cast<Forks*>(call.data);
}

template <size_t N>
bool ReadRequest(const js::Call<N>& call, size_t index, Request* request) {
  if (!call.Uint(index, &request->flags)) return false;
  std::span<int32_t> named;
  if (!call.Ints(index + 1, 0, &named)) return false;
  request->named.assign(named.begin(), named.end());
  return true;
}

// useHooks(hooks): 0, or -EINVAL if these are not the ones of a forkbeard_v8.node that belongs to us.
napi_value UseHooks(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  void* data = nullptr;
  napi_valuetype type;
  if (napi_typeof(env, call[0], &type) != napi_ok || type != napi_external ||
      napi_get_value_external(env, call[0], &data) != napi_ok || data == nullptr) {
    return js::Int(env, -EINVAL);
  }
  auto* hooks = static_cast<const ForkHooks*>(data);
  if (hooks->magic != ForkHooks::kMagic || hooks->size != sizeof(ForkHooks)) return js::Int(env, -EINVAL);
  Of(call)->hooks = hooks;
  return js::Int(env, 0);
}

// forkLater(flags, named, ms, quiet, done)
napi_value ForkLater(napi_env env, napi_callback_info info) {
  js::Call<5> call(env, info);
  Forks* forks = Of(call);
  Request request;
  double patience;
  napi_valuetype quiet, done;
  if (forks->hooks == nullptr) return js::Int(env, -ENOTSUP);
  if (!ReadRequest(call, 0, &request) || !call.Number(2, &patience) ||
      napi_typeof(env, call[3], &quiet) != napi_ok || quiet != napi_function ||
      napi_typeof(env, call[4], &done) != napi_ok || done != napi_function) {
    return js::Int(env, -EINVAL);
  }
  // A century is for ever.
  uint64_t nanos =
      patience < 3e12 ? static_cast<uint64_t>(std::max(0.0, patience) * 1e6) : 3'000'000'000'000'000'000;
  auto* point = new ForkPoint(forks, std::move(request), uv_hrtime() + nanos);
  return js::Int(env, point->Start(call[3], call[4]));
}

// forkNow(flags, named, out): the pid, 0 in the child, or a negative errno; out[0] is the report's descriptor.
napi_value ForkNow(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  Forks* forks = Of(call);
  Request request;
  std::span<int32_t> out;
  if (forks->hooks == nullptr) return js::Int(env, -ENOTSUP);
  if (!ReadRequest(call, 0, &request) || !call.Ints(2, 1, &out)) return js::Int(env, -EINVAL);
  Outcome outcome = Fork(forks, request, kOneTry);
  out[0] = outcome.report.Release();
  return js::Int(env, outcome.pid);
}

// abandon(): a forkNow that said -EBUSY is not going to be repeated.
napi_value Abandon(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  if (Of(call)->hooks != nullptr) Of(call)->hooks->abandon();
  return nullptr;
}

// report(): in a child, once: it lives.
napi_value Report(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  Fd report = std::move(Of(call)->report);
  int alive = 0;
  while (report && write(report.get(), &alive, sizeof alive) < 0 && errno == EINTR) {
  }
  return nullptr;
}

// requests(): how many requests libuv has under way, of whatever kind.
napi_value Requests(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  return js::Number(env, Of(call)->loop->active_reqs.count);
}

// hasWork(): whether Node's loop would go on.
napi_value HasWork(napi_env env, napi_callback_info info) {
  js::Call<0> call(env, info);
  return js::Bool(env, uv_loop_alive(Of(call)->loop) != 0);
}

// end(code): out of here, past everything that would wait for threads that a child does not have.
napi_value End(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t code = 0;
  call.Int(0, &code);
  fflush(nullptr);
  _exit(code);
}

}  // namespace

napi_value MakeForkExports(napi_env env) {
  auto* forks = new Forks(env);
  napi_get_uv_event_loop(env, &forks->loop);
  forks->last_own_fd = std::max({forks->loop->backend_fd, forks->loop->signal_pipefd[0],
                                 forks->loop->signal_pipefd[1], forks->loop->async_io_watcher.fd}) +
                       1;
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "useHooks", UseHooks, forks);
  js::SetFunction(env, exports, "forkLater", ForkLater, forks);
  js::SetFunction(env, exports, "forkNow", ForkNow, forks);
  js::SetFunction(env, exports, "abandon", Abandon, forks);
  js::SetFunction(env, exports, "report", Report, forks);
  js::SetFunction(env, exports, "requests", Requests, forks);
  js::SetFunction(env, exports, "hasWork", HasWork, forks);
  js::SetFunction(env, exports, "end", End);
  napi_add_finalizer(
      env, exports, forks, [](napi_env, void* data, void*) { delete static_cast<Forks*>(data); }, nullptr,
      nullptr);
  return exports;
}

}  // namespace forkbeard
