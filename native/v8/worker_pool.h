// WorkerPool: the threads that run V8's background work (garbage collection, compilation) instead of Node's own, because
// these can be brought to rest between two tasks for a fork, and started again in the child with the queue as it was.
// Knows tasks and time; knows nothing of isolates, platforms and processes.
#pragma once

#include <pthread.h>
#include <v8-platform.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>

namespace forkbeard {

class WorkerPool {
 public:
  explicit WorkerPool(int threads) : wanted_(threads) { Initialise(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Post(v8::TaskPriority priority, std::unique_ptr<v8::Task> task);
  void PostDelayed(v8::TaskPriority priority, std::unique_ptr<v8::Task> task, double seconds);

  // Waits until every task that somebody must wait for (see platform.cc) has run.
  void Drain();

  // True: no task runs, none starts, and nobody else touches the pool until Resume or ResumeInChild. False: a task did
  // not end within `limit` nanoseconds; no new one starts until Quiesce is repeated, or Unpause gives it up.
  bool Quiesce(int64_t limit);
  void Unpause();
  void Resume();
  // The threads are gone and the tasks are here. New threads come with the next task, or are started for those that are
  // queued: not before the rest of the child is in order, as tasks wake the main thread through libuv.
  void ResumeInChild();
  void StartForQueued();

  // Waits for running tasks, `limit` nanoseconds at most, and ends the threads. What is queued stays. False when a
  // task still runs.
  bool Stop(int64_t limit);

 private:
  struct Entry {
    v8::TaskPriority priority;
    std::unique_ptr<v8::Task> task;
  };
  static constexpr size_t kPriorities = static_cast<size_t>(v8::TaskPriority::kUserBlocking) + 1;

  void Initialise();
  void Work();
  void Enqueue(Entry entry);
  bool HasWork() const;
  bool Take(Entry* out);
  void Run(Entry entry);
  void StartThreads();
  void TakeDue();

  pthread_mutex_t mutex_;
  pthread_cond_t work_;   // there is a task, or the end
  pthread_cond_t quiet_;  // a task has run
  std::array<std::deque<std::unique_ptr<v8::Task>>, kPriorities> queues_;
  std::multimap<int64_t, Entry> delayed_;  // by their time on the monotonic clock
  const int wanted_;
  int threads_ = 0;
  int running_ = 0;
  size_t awaited_ = 0;       // tasks that Drain waits for
  bool timekeeper_ = false;  // a thread sleeps until the next delayed task
  bool paused_ = false;
  bool stopped_ = false;
};

}  // namespace forkbeard
