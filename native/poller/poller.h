// Poller: the interface that all backends share. It knows descriptors, interests and one wake-up; it knows no
// JavaScript, no timers beyond one alarm, and no policy. One file a backend: epoll.cc, kqueue.cc, poll.cc.
//
// An interest lives in a slot that the caller chose (small, dense numbers) and carries the caller's generation.
// Events come back as {slot, generation, mask}. An event whose generation is not the slot's any more never leaves
// Wait: it belonged to a descriptor that was closed here while another process keeps its file open (a "ghost"),
// and makes the poller build its kernel object anew.
//
// All functions return 0 (or a count) or a negative errno. Only Wake may be called from other threads and from
// signal handlers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fd.h"

namespace forkbeard {

// What is asked for and reported. The same bits in both directions, and in lib/loop/poller.ts.
enum Mask : uint32_t {
  kRead = 1,
  kWrite = 2,
  // Asked: tell when the peer closes. Reported: both directions are closed (HUP).
  kHangup = 4,
  // Asked alone: nothing but errors, which come unasked. Reported: ERR.
  kError = 8,
  kInvalid = 16,    // reported only: the descriptor cannot be watched any more; see ReportedErrno
  kEdge = 32,       // asked only
  kExclusive = 64,  // asked only: EPOLLEXCLUSIVE where there is one
  kHalfClosed =
      128  // reported only, when kHangup was asked: the peer sends no more (RDHUP, EV_EOF of the read side)
};

struct Event {
  uint32_t slot;
  uint32_t generation;
  uint32_t mask;
};
// Goes with kInvalid: why, as a positive errno. Without one it is EBADF.
constexpr uint32_t ReportedErrno(int error) { return static_cast<uint32_t>(error) << 16; }
static_assert(sizeof(Event) == 12, "JavaScript reads a batch as triples of 32-bit numbers");

// Somebody who tells the loop something beside the poller: the signals that it watches.
class Attention {
 public:
  // There is something to tell: a Wait does not sleep.
  virtual bool IsWanted() const = 0;
  // At the end of a Wait: puts it where JavaScript finds it.
  virtual void Fetch() = 0;

 protected:
  ~Attention() = default;
};

enum class Backend { kEpoll, kKqueue, kPoll };

class Poller {
 public:
  static constexpr int64_t kForever = -1;

  // Backends that are compiled in, best first.
  static std::span<const Backend> Available();
  // Null and a negative errno when the kernel refuses.
  static std::unique_ptr<Poller> Create(Backend backend, int* error);

  virtual ~Poller() = default;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // The kernel object, -1 where there is none.
  virtual int fd() const = 0;
  // The same object under another number, to be shown to users: whatever they do to that one, ours stays open.
  // (libuv, which polls ours, aborts the process over a number that was closed behind its back.)
  int PublicFd();

  // A descriptor that cannot be polled (regular file, directory) becomes an always-ready one.
  int Add(uint32_t slot, uint32_t generation, int fd, uint32_t mask);
  int Modify(uint32_t slot, uint32_t mask);
  // Never fails: whatever the kernel says, the interest is gone.
  void Remove(uint32_t slot);

  // Waits `timeout` nanoseconds at most (kForever: no limit), never less unless something happened, and writes at most
  // out.size() events. 0 when the time is over, or on a wake-up, an alarm or an interrupting signal.
  int Wait(int64_t timeout, std::span<Event> out);

  // Makes a Wait that runs now, or else the next one, return. Async-signal-safe.
  virtual void Wake() = 0;

  // Null: nobody. He calls Wake when there is something to tell.
  void SetAttention(Attention* attention) { attention_ = attention; }
  // For a loop that sleeps in somebody else's poll, when what a Wait gave was dealt with: a wake-up that this Wait had no
  // need to fetch from the kernel does not wake it again.
  void Settle() {
    if (!has_skipped_) return;
    has_skipped_ = false;
    DrainWakeup();
    if (IsWanted()) Wake();
  }

  // Makes the kernel object readable (and Wait return) once, `after` nanoseconds from now; negative: never.
  // For a loop that sleeps in somebody else's poll. One alarm a poller, the last call counts.
  virtual int SetAlarm(int64_t after) = 0;
  // The same at a wall-clock time (nanoseconds since 1970), and also whenever that clock is set. -ENOTSUP where
  // the kernel cannot tell.
  virtual int SetWallAlarm(int64_t at) = 0;

  // For a backend without a kernel object (fd() < 0): calls ready(data) from a thread of its own when a Wait would
  // return, then rests until RelayDone. -ENOTSUP elsewhere.
  virtual int StartRelay(void (*ready)(void*), void* data);
  virtual void RelayDone() {}
  virtual void StopRelay() {}

  // In a forked child, before anything else is called: lets go of what belongs to the parent as well. The table still
  // changes, but the kernel hears of it only with Recreate.
  void Forked();
  // New kernel objects, same interests: after a fork, and to shake off ghosts. An interest that cannot be re-added is
  // reported by the next Wait as kInvalid, with the kernel's reason.
  int Recreate();
  // Grows with every Recreate, also with those that Wait does against ghosts: fd() is another object then.
  uint32_t incarnation() const { return incarnation_; }

  bool HasInterests() const { return interest_count_ > 0; }
  // True while there is something to report without waiting (always-ready descriptors, failed interests).
  bool HasImmediate() const { return always_ready_ > 0 || !failed_.empty(); }

 protected:
  struct Interest {
    // kTold: nothing to report, waits for a Modify (an edge-triggered regular file that was told, a failed interest).
    enum class State : uint8_t { kFree, kKernel, kAlwaysReady, kFailed, kTold };
    int fd = -1;
    uint32_t generation = 0;
    uint32_t mask = 0;
    State state = State::kFree;
  };

  Poller() = default;

  // The backend's part. Register: -EPERM makes the interest always ready. Update is told the old mask.
  virtual int Register(uint32_t slot, const Interest& interest) = 0;
  virtual int Update(uint32_t slot, const Interest& interest, uint32_t old_mask) = 0;
  virtual void Unregister(uint32_t slot, const Interest& interest) = 0;
  // Writes events of live interests (see Deliver) and returns how many, 0, or a negative errno (-EINTR included).
  // `out` is never empty.
  virtual int WaitKernel(int64_t timeout, std::span<Event> out) = 0;
  // Takes a wake-up back that no WaitKernel has seen. Where it does nothing, the next one sees it.
  virtual void DrainWakeup() {}
  // Closes or forgets the kernel objects that this child shares with its parent, without changing them. What a
  // signal handler may be using keeps its number.
  virtual void LeaveToParent() = 0;
  // `forked`: LeaveToParent was called before. When it fails, what was there is still there.
  virtual int RecreateKernel(bool forked) = 0;

  // True and filled in when the event is for the slot's present interest; a ghost schedules a rebuild.
  bool Deliver(uint32_t slot, uint32_t generation, uint32_t mask, Event* out);
  void NoteGhost() { ghosts_ = true; }

  std::vector<Interest> interests_;
  Fd public_;

 private:
  bool IsWanted() const { return attention_ != nullptr && attention_->IsWanted(); }
  Interest* Find(uint32_t slot);
  int Enter(uint32_t slot);
  void Leave(uint32_t slot);
  size_t ReportImmediate(std::span<Event> out);

  struct Failure {
    uint32_t slot;
    int error;
  };
  std::vector<Failure> failed_;
  size_t always_ready_ = 0;
  uint32_t next_always_ready_ = 0;  // where the last batch stopped: fairness when they do not all fit
  bool ghosts_ = false;
  bool forked_ = false;
  Attention* attention_ = nullptr;
  size_t interest_count_ = 0;
  bool has_skipped_ = false;
  uint32_t incarnation_ = 0;
};

std::unique_ptr<Poller> CreateEpoll(int* error);
std::unique_ptr<Poller> CreateKqueue(int* error);
std::unique_ptr<Poller> CreatePoll(int* error);

}  // namespace forkbeard
