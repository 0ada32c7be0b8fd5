#include "platform.h"

#include <errno.h>
#include <node.h>
#include <pthread.h>
#include <time.h>
#include <v8-initialization.h>
#include <v8-platform.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "self.h"
#include "worker_pool.h"

namespace forkbeard {

namespace {

using v8::Isolate;
using v8::Task;
using v8::TaskPriority;

// How long Node's own threads may take to finish what they were given before we came, and the self-test to arrive.
constexpr int64_t kPatience = 5'000'000'000;
// How long a running task may delay the end of the process. Node itself would wait for ever.
constexpr int64_t kLastPatience = 2'000'000'000;

// A pointer to a virtual member function, in the Itanium C++ ABI: where in the vtable the function stands.
template <class Method>
size_t SlotOf(Method method) {
  std::array<uintptr_t, 2> words;
  static_assert(sizeof method == sizeof words);
  memcpy(words.data(), &method, sizeof words);
#if defined(__aarch64__) || defined(__arm__)
  return words[0] / sizeof(void*);  // the flag is in the other word
#else
  return (words[0] - 1) / sizeof(void*);
#endif
}

// Some of the functions are protected.
struct Access : node::MultiIsolatePlatform {
#if V8_MAJOR_VERSION < 12
  static size_t Post() { return SlotOf(&Access::CallOnWorkerThread); }
  static size_t PostBlocking() { return SlotOf(&Access::CallBlockingTaskOnWorkerThread); }
  static size_t PostLowPriority() { return SlotOf(&Access::CallLowPriorityTaskOnWorkerThread); }
  static size_t PostDelayed() { return SlotOf(&Access::CallDelayedOnWorkerThread); }
#else
  static size_t Post() { return SlotOf(&Access::PostTaskOnWorkerThreadImpl); }
  static size_t PostDelayed() { return SlotOf(&Access::PostDelayedTaskOnWorkerThreadImpl); }
#endif
  static size_t Drain() { return SlotOf(&Access::DrainTasks); }
  static size_t Allocator() { return SlotOf(&Access::GetPageAllocator); }
  static size_t Last() { return SlotOf(&Access::AddIsolateFinishedCallback); }
};

// The two destructors come first, as ~Platform() is declared first; SelfCheck holds this against the next slot.
constexpr size_t kDeletingDestructor = 1;
// The table's own entries before slot 0: offset to top and type info.
constexpr size_t kPrefix = 2;
// Slots that Node's class may have behind the ones of its public base.
constexpr size_t kOwnSlots = 8;

struct State {
  node::MultiIsolatePlatform* platform = nullptr;
  void** table = nullptr;  // Node's own
  void** copy = nullptr;   // and ours, which a thread may still be calling through when Node's is back
  WorkerPool* pool = nullptr;
};
// Lives as long as the process; written before the redirection is in force.
State state;
std::atomic<Redirection> redirection{Redirection::kUntried};

template <class Function>
Function Original(size_t slot) {
  return reinterpret_cast<Function>(state.table[slot]);
}

// What stands in the exchanged slots. A member function gets `this` as its first argument.
using Platform = node::MultiIsolatePlatform;

#if V8_MAJOR_VERSION < 12
void Post(Platform*, std::unique_ptr<Task> task) {
  state.pool->Post(TaskPriority::kUserVisible, std::move(task));
}
void PostBlocking(Platform*, std::unique_ptr<Task> task) {
  state.pool->Post(TaskPriority::kUserBlocking, std::move(task));
}
void PostLowPriority(Platform*, std::unique_ptr<Task> task) {
  state.pool->Post(TaskPriority::kBestEffort, std::move(task));
}
void PostDelayed(Platform*, std::unique_ptr<Task> task, double seconds) {
  state.pool->PostDelayed(TaskPriority::kUserVisible, std::move(task), seconds);
}
void PostToNode(std::unique_ptr<Task> task) {
  Original<void (*)(Platform*, std::unique_ptr<Task>)>(Access::Post())(state.platform, std::move(task));
}
#else
void Post(Platform*, TaskPriority priority, std::unique_ptr<Task> task, const v8::SourceLocation&) {
  state.pool->Post(priority, std::move(task));
}
void PostDelayed(Platform*, TaskPriority priority, std::unique_ptr<Task> task, double seconds,
                 const v8::SourceLocation&) {
  state.pool->PostDelayed(priority, std::move(task), seconds);
}
void PostToNode(std::unique_ptr<Task> task) {
  using Function = void (*)(Platform*, TaskPriority, std::unique_ptr<Task>, const v8::SourceLocation&);
  // Not one that anybody who drains Node's queue would wait for, where priorities are known.
  Original<Function>(Access::Post())(state.platform, TaskPriority::kUserVisible, std::move(task),
                                     v8::SourceLocation());
}
#endif

void Drain(Platform* platform, Isolate* isolate) {
  // Node's own queue has nothing new, and in a child there is nobody who would work on it.
  do {
    state.pool->Drain();
  } while (platform->FlushForegroundTasks(isolate));
}

// Node has joined its own threads and is about to leave: so do ours, and the destructor finds its object as it was.
void Destroy(Platform* platform) {
  bool rests = state.pool->Stop(kLastPatience);
  std::memcpy(static_cast<void*>(platform), &state.table, sizeof state.table);
  redirection = Redirection::kRefused;
  // A task that still runs needs the platform; the process ends without its destructor then.
  if (rests) Original<void (*)(Platform*)>(kDeletingDestructor)(platform);
}

// ------------------------------------------------------------------------------------- Node's own threads

struct Hold {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition;
  int arrived = 0;
  uint64_t round = 0;  // odd while they are held
};
Hold* hold = nullptr;
int node_threads = 0;

timespec Deadline(int64_t nanos) {
  timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  int64_t total = until.tv_nsec + nanos;
  until.tv_sec += total / 1'000'000'000;
  until.tv_nsec = total % 1'000'000'000;
  return until;
}

class HoldTask : public Task {
 public:
  HoldTask(Hold* hold, uint64_t round) : hold_(hold), round_(round) {}
  void Run() override {
    pthread_mutex_lock(&hold_->mutex);
    if (hold_->round == round_) {
      hold_->arrived++;
      pthread_cond_broadcast(&hold_->condition);
      while (hold_->round == round_) pthread_cond_wait(&hold_->condition, &hold_->mutex);
    }
    pthread_mutex_unlock(&hold_->mutex);
  }

 private:
  Hold* const hold_;
  const uint64_t round_;
};

Hold* MakeHold() {
  auto* made = new Hold;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&made->condition, &attributes);
  pthread_condattr_destroy(&attributes);
  return made;
}

// ------------------------------------------------------------------------------------------ installation

class SelfTest : public Task {
 public:
  explicit SelfTest(std::atomic<bool>* arrived) : arrived_(arrived) {}
  void Run() override { arrived_->store(true); }

 private:
  std::atomic<bool>* const arrived_;
};

// The slots are what this file believes, as far as that can be known without calling them.
bool SlotsMakeSense() {
  size_t slots[] = {Access::Post(), Access::PostDelayed(), Access::Drain(), Access::Allocator(),
                    Access::Last()};
  for (size_t slot : slots) {
    if (slot > Access::Last()) return false;
  }
  return Access::Allocator() == kDeletingDestructor + 1;
}

bool EverythingPointsIntoNode(void** table, size_t slots) {
  Program node = ProgramAt(table);
  for (size_t slot = 0; slot < slots; slot++) {
    if (!node.Executes(table[slot])) return false;
  }
  return node.found;
}

bool Install(Isolate* isolate) {
  auto* environment = node::GetCurrentEnvironment(isolate->GetCurrentContext());
  if (environment == nullptr) return false;
  auto* platform = node::GetMultiIsolatePlatform(environment);
  if (platform == nullptr || !SlotsMakeSense()) return false;
  void** table;
  memcpy(&table, static_cast<void*>(platform), sizeof table);
  const size_t known = Access::Last() + 1;
  if (!EverythingPointsIntoNode(table, known)) return false;
  // Node's class may have virtual functions of its own behind those of the public base. They are copied as far as they
  // look like functions, and never called by anybody else than Node.
  Program node = ProgramAt(table);
  size_t slots = known;
  while (slots < known + kOwnSlots && node.Contains(table + slots) && node.Executes(table[slots])) slots++;

  // Node counts the thread that keeps the time of delayed tasks among its workers (node_platform.cc,
  // WorkerThreadsTaskRunner::NumberOfWorkerThreads), and that one runs no tasks.
  int threads = std::max(1, platform->NumberOfWorkerThreads() - 1);
  state.platform = platform;
  state.table = table;
  state.pool = new WorkerPool(threads);
  node_threads = threads;
  hold = MakeHold();

  auto** copy = static_cast<void**>(calloc(slots + kPrefix, sizeof(void*)));
  state.copy = copy;
  std::copy(table - kPrefix, table + slots, copy);
  void** patched = copy + kPrefix;
  auto exchange = [&](size_t slot, auto* function) { patched[slot] = reinterpret_cast<void*>(function); };
  exchange(Access::Post(), Post);
#if V8_MAJOR_VERSION < 12
  exchange(Access::PostBlocking(), PostBlocking);
  exchange(Access::PostLowPriority(), PostLowPriority);
#endif
  exchange(Access::PostDelayed(), PostDelayed);
  exchange(Access::Drain(), Drain);
  exchange(kDeletingDestructor, Destroy);
  // Other threads may be calling through the old table at this moment: either is right.
  __atomic_store_n(reinterpret_cast<void***>(platform), patched, __ATOMIC_RELEASE);

  // What is posted from now on comes to us: see that it does, and wait for what was posted before.
  std::atomic<bool> arrived{false};
  std::unique_ptr<Task> test = std::make_unique<SelfTest>(&arrived);
#if V8_MAJOR_VERSION < 12
  platform->CallBlockingTaskOnWorkerThread(std::move(test));
#else
  static_cast<v8::Platform*>(platform)->CallBlockingTaskOnWorkerThread(std::move(test));
#endif
  state.pool->Drain();
  bool works = arrived.load();
  if (works) {
    works = HoldNodeThreads(kPatience);
    if (works) ReleaseNodeThreads();
  }
  if (!works) {
    __atomic_store_n(reinterpret_cast<void***>(platform), table, __ATOMIC_RELEASE);
    return false;
  }
  return true;
}

}  // namespace

Redirection RedirectPlatform(Isolate* isolate) {
  static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&once);
  if (redirection == Redirection::kUntried) {
    bool installed = StayLoaded() && Install(isolate);
    redirection = installed ? Redirection::kInstalled : Redirection::kRefused;
  }
  pthread_mutex_unlock(&once);
  return redirection;
}

WorkerPool* RedirectedPool() { return redirection == Redirection::kInstalled ? state.pool : nullptr; }

bool HoldNodeThreads(int64_t limit) {
  pthread_mutex_lock(&hold->mutex);
  uint64_t round = ++hold->round;
  hold->arrived = 0;
  pthread_mutex_unlock(&hold->mutex);
  for (int i = 0; i < node_threads; i++) PostToNode(std::make_unique<HoldTask>(hold, round));
  timespec until = Deadline(limit);
  pthread_mutex_lock(&hold->mutex);
  while (hold->arrived < node_threads) {
    if (pthread_cond_timedwait(&hold->condition, &hold->mutex, &until) == ETIMEDOUT) break;
  }
  bool all = hold->arrived == node_threads;
  pthread_mutex_unlock(&hold->mutex);
  if (!all) ReleaseNodeThreads();
  return all;
}

void ReleaseNodeThreads() {
  pthread_mutex_lock(&hold->mutex);
  hold->round++;
  pthread_cond_broadcast(&hold->condition);
  pthread_mutex_unlock(&hold->mutex);
}

void ForgetNodeThreads() {
  // The old one stays as it is, with the dead waiting on it.
  hold = MakeHold();
  node_threads = 0;
}

void WakeForegroundTasks(Isolate* isolate) {
  // A task comes with a wake-up, and whoever is woken runs all of them.
  class Nothing : public Task {
    void Run() override {}
  };
  v8::HandleScope scope(isolate);
  auto* environment = node::GetCurrentEnvironment(isolate->GetCurrentContext());
  if (environment == nullptr) return;
  v8::Platform* platform = node::GetMultiIsolatePlatform(environment);
  // Never let go of: this may have been compiled with another standard library than Node, whose shared pointers are laid
  // out the same and counted otherwise. It is one reference in the life of a child.
  union Kept {
    Kept(v8::Platform* platform, Isolate* isolate) : runner(platform->GetForegroundTaskRunner(isolate)) {}
    ~Kept() {}
    std::shared_ptr<v8::TaskRunner> runner;
  } kept(platform, isolate);
  kept.runner->PostTask(std::make_unique<Nothing>());
}

const void* AddressInNode() { return reinterpret_cast<const void*>(&v8::V8::GetVersion); }

}  // namespace forkbeard
