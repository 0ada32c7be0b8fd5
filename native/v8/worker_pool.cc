// See worker_pool.h. pthread's own objects instead of the standard library's: a child must be able to make them anew,
// whatever state the fork found them in, and condition_variable's timed wait needs a newer libc than we ask for.
#include "worker_pool.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <utility>

namespace forkbeard {

namespace {

constexpr int64_t kNanosPerSecond = 1000000000;
constexpr size_t kStackSize = 8 << 20;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanosPerSecond + now.tv_nsec;
}

// False when the time was up.
bool WaitUntil(pthread_cond_t* condition, pthread_mutex_t* mutex, int64_t when) {
  timespec until = {static_cast<time_t>(when / kNanosPerSecond), static_cast<long>(when % kNanosPerSecond)};
  return pthread_cond_timedwait(condition, mutex, &until) != ETIMEDOUT;
}

void MakeCondition(pthread_cond_t* condition) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(condition, &attributes);
  pthread_condattr_destroy(&attributes);
}

// Who waits for V8's work, waits for what? Node 20 and 22 know no priorities: for all of it. Later ones only for the
// work that somebody is blocked by (nodejs/node#58047).
bool IsAwaited(v8::TaskPriority priority) {
#if V8_MAJOR_VERSION >= 13
  return priority == v8::TaskPriority::kUserBlocking;
#else
  return true;
#endif
}

class Lock {
 public:
  explicit Lock(pthread_mutex_t* mutex) : mutex_(mutex) { pthread_mutex_lock(mutex_); }
  ~Lock() { pthread_mutex_unlock(mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t* mutex_;
};

}  // namespace

void WorkerPool::Initialise() {
  pthread_mutex_init(&mutex_, nullptr);
  MakeCondition(&work_);
  MakeCondition(&quiet_);
}

void WorkerPool::Post(v8::TaskPriority priority, std::unique_ptr<v8::Task> task) {
  Lock lock(&mutex_);
  Enqueue({priority, std::move(task)});
}

void WorkerPool::PostDelayed(v8::TaskPriority priority, std::unique_ptr<v8::Task> task, double seconds) {
  if (!(seconds > 0)) return Post(priority, std::move(task));
  Lock lock(&mutex_);
  // V8 asks for seconds; a century is for ever.
  auto delay = static_cast<int64_t>((seconds < 3e9 ? seconds : 3e9) * kNanosPerSecond);
  delayed_.emplace(Now() + delay, Entry{priority, std::move(task)});
  StartThreads();
  pthread_cond_broadcast(&work_);
}

void WorkerPool::Drain() {
  Lock lock(&mutex_);
  while (awaited_ > 0) {
    // Whoever drains may be what the main thread waits for before it can fork.
    if (paused_) {
      paused_ = false;
      pthread_cond_broadcast(&work_);
    }
    StartThreads();
    Entry entry;
    if (threads_ == 0 && Take(&entry)) {
      Run(std::move(entry));
      continue;
    }
    pthread_cond_wait(&quiet_, &mutex_);
  }
}

bool WorkerPool::Quiesce(int64_t limit) {
  pthread_mutex_lock(&mutex_);
  paused_ = true;
  for (int64_t until = Now() + limit; running_ > 0;) {
    if (!WaitUntil(&quiet_, &mutex_, until) && running_ > 0) {
      pthread_mutex_unlock(&mutex_);
      return false;
    }
  }
  return true;
}

void WorkerPool::Unpause() {
  Lock lock(&mutex_);
  paused_ = false;
  pthread_cond_broadcast(&work_);
}

void WorkerPool::Resume() {
  paused_ = false;
  // As a rule there is nothing to do, and threads that wake for that take the processors which the child begins on.
  if (HasWork()) pthread_cond_broadcast(&work_);
  pthread_mutex_unlock(&mutex_);
}

void WorkerPool::ResumeInChild() {
  Initialise();
  Lock lock(&mutex_);
  threads_ = 0;
  running_ = 0;
  timekeeper_ = false;
  paused_ = false;
}

void WorkerPool::StartForQueued() {
  Lock lock(&mutex_);
  if (HasWork()) StartThreads();
}

bool WorkerPool::Stop(int64_t limit) {
  Lock lock(&mutex_);
  stopped_ = true;
  pthread_cond_broadcast(&work_);
  for (int64_t until = Now() + limit; threads_ > 0;) {
    if (!WaitUntil(&quiet_, &mutex_, until) && threads_ > 0) return false;
  }
  return true;
}

// ------------------------------------------------------------------------------- with the mutex held

void WorkerPool::Enqueue(Entry entry) {
  if (IsAwaited(entry.priority)) awaited_++;
  queues_[static_cast<size_t>(entry.priority)].push_back(std::move(entry.task));
  if (threads_ == 0) StartThreads();
  pthread_cond_signal(&work_);
}

bool WorkerPool::HasWork() const {
  return !delayed_.empty() || !std::ranges::all_of(queues_, [](const auto& queue) { return queue.empty(); });
}

bool WorkerPool::Take(Entry* out) {
  for (size_t priority = kPriorities; priority-- > 0;) {
    auto& queue = queues_[priority];
    if (queue.empty()) continue;
    out->priority = static_cast<v8::TaskPriority>(priority);
    out->task = std::move(queue.front());
    queue.pop_front();
    return true;
  }
  return false;
}

void WorkerPool::Run(Entry entry) {
  running_++;
  pthread_mutex_unlock(&mutex_);
  entry.task->Run();
  entry.task.reset();
  pthread_mutex_lock(&mutex_);
  running_--;
  if (IsAwaited(entry.priority)) awaited_--;
  if (running_ == 0 || awaited_ == 0) pthread_cond_broadcast(&quiet_);
}

void WorkerPool::TakeDue() {
  for (int64_t now = Now(); !delayed_.empty() && delayed_.begin()->first <= now;) {
    auto node = delayed_.extract(delayed_.begin());
    Enqueue(std::move(node.mapped()));
  }
}

// As many as can be had: none is asked for again with the next task, and whoever drains runs the tasks himself.
void WorkerPool::StartThreads() {
  if (threads_ > 0 || stopped_) return;
  // No signal of the process is ever handled by one of these.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  for (int i = 0; i < wanted_; i++) {
    pthread_t thread;
    auto work = [](void* self) -> void* {
      static_cast<WorkerPool*>(self)->Work();
      return nullptr;
    };
    if (pthread_create(&thread, &attributes, work, this) != 0) break;
    // Named here and not by itself: until then it would be taken for somebody else's.
    pthread_setname_np(thread, "forkbeard-v8");
    threads_++;
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// ----------------------------------------------------------------------------------- in each thread

void WorkerPool::Work() {
  Lock lock(&mutex_);
  for (;;) {
    if (stopped_) break;
    if (!paused_) {
      TakeDue();
      Entry entry;
      if (Take(&entry)) {
        // This one may have been the one that keeps the time.
        if (!timekeeper_ && !delayed_.empty()) pthread_cond_signal(&work_);
        Run(std::move(entry));
        continue;
      }
    }
    if (!paused_ && !timekeeper_ && !delayed_.empty()) {
      timekeeper_ = true;
      WaitUntil(&work_, &mutex_, delayed_.begin()->first);
      timekeeper_ = false;
      continue;
    }
    pthread_cond_wait(&work_, &mutex_);
  }
  // Detached: nothing of the pool may be touched after the lock is gone, and the pool is never freed.
  if (--threads_ == 0) pthread_cond_broadcast(&quiet_);
}

}  // namespace forkbeard
