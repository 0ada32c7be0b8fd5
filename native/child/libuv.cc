// See libuv.h.
#include "child/libuv.h"

#include <uv.h>

#include <map>
#include <mutex>
#include <new>

namespace forkbeard {

namespace {

// Of all threads. A forked child makes it anew, because a thread that is gone may have held it.
alignas(std::mutex) char lock_memory[sizeof(std::mutex)];
std::mutex* lock = new (lock_memory) std::mutex;

struct Attended {
  pid_t pid;        // 0: nobody wants to know any more
  uv_exit_cb told;  // child_process's
};
std::map<const uv_process_t*, Attended> attended;
std::map<pid_t, int> reaped_by_libuv;

void OnLibuvExit(uv_process_t* process, int64_t exit_status, int term_signal) {
  uv_exit_cb told = nullptr;
  {
    std::lock_guard<std::mutex> guard(*lock);
    auto found = attended.find(process);
    if (found != attended.end()) {
      told = found->second.told;
      if (found->second.pid != 0) reaped_by_libuv[found->second.pid] = process->status;
      attended.erase(found);
    }
  }
  process->exit_cb = told;
  if (told != nullptr) told(process, exit_status, term_signal);
}

// The handle by which child_process, or whoever uses libuv in this environment, waits for this child.
uv_process_t* LibuvHandle(napi_env env, pid_t pid) {
  struct Search {
    pid_t pid;
    uv_process_t* found;
  } search = {pid, nullptr};
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nullptr;
  uv_walk(
      loop,
      [](uv_handle_t* handle, void* argument) {
        auto* wanted = static_cast<Search*>(argument);
        if (handle->type != UV_PROCESS || uv_is_closing(handle)) return;
        auto* process = reinterpret_cast<uv_process_t*>(handle);
        if (process->pid == wanted->pid) wanted->found = process;
      },
      &search);
  return search.found;
}

}  // namespace

bool AttendLibuvs(napi_env env, pid_t pid) {
  uv_process_t* process = LibuvHandle(env, pid);
  if (process == nullptr) return false;
  std::lock_guard<std::mutex> guard(*lock);
  if (process->exit_cb == OnLibuvExit) {
    attended[process].pid = pid;
  } else {
    attended[process] = {pid, process->exit_cb};
    process->exit_cb = OnLibuvExit;
  }
  reaped_by_libuv.erase(pid);
  return true;
}

bool RecallLibuvs(pid_t pid, int* status) {
  std::lock_guard<std::mutex> guard(*lock);
  auto found = reaped_by_libuv.find(pid);
  if (found == reaped_by_libuv.end()) return false;
  *status = found->second;
  return true;
}

void DisregardLibuvs(pid_t pid) {
  std::lock_guard<std::mutex> guard(*lock);
  reaped_by_libuv.erase(pid);
  for (auto& [process, one] : attended) {
    if (one.pid == pid) one.pid = 0;
  }
}

void LibuvsForked() {
  lock = new (lock_memory) std::mutex;
  reaped_by_libuv.clear();
}

}  // namespace forkbeard
