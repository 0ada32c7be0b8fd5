// What the parts of the emulation share: a queue and its filters. emulation.cc has the calls and all queues, and is the
// only one that locks; emulation_filters.cc adds, changes and removes filters; emulation_events.cc finds out what they
// have to tell. Functions that return an int return a positive errno, as kevent's data has it, or 0.
#pragma once

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/stat.h>
#include <time.h>

#include <array>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

extern "C" int __real_close(int fd);

namespace emulation {

constexpr int64_t kNanosPerSecond = 1'000'000'000;

inline int64_t ToNanos(const timespec& time) { return time.tv_sec * kNanosPerSecond + time.tv_nsec; }
inline timespec ToTimespec(int64_t nanos) { return {nanos / kNanosPerSecond, nanos % kNanosPerSecond}; }

inline int64_t Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return ToNanos(now);
}

enum Side : int { kReadSide, kWriteSide };

struct Knote {
  uint64_t id = 0;
  // ident, filter, udata as asked; flags without those that only say what to do; fflags and data as last
  // asked.
  struct kevent asked = {};
  bool disabled = false;
  bool silent = false;  // never fires: a filter for the direction that this end of a pipe does not have
  int object = -1;      // timerfd, eventfd or pidfd
  dev_t device = 0;     // the file that a descriptor named when the filter was added
  ino_t inode = 0;
  bool connected = false;  // was seen with a peer

  bool OnDescriptor() const { return asked.filter == EVFILT_READ || asked.filter == EVFILT_WRITE; }
  Side side() const { return asked.filter == EVFILT_READ ? kReadSide : kWriteSide; }
  int fd() const { return static_cast<int>(asked.ident); }
};

using Key = std::pair<int16_t, uintptr_t>;

struct Queue {
  uint64_t serial = 0;
  int fd = -1;
  std::array<int, 2> sets = {-1, -1};
  // Of the last timer that went: an alarm that comes and goes shall not show in the number of open descriptors.
  int spare_timer = -1;
  std::map<Key, std::unique_ptr<Knote>> knotes;
  std::unordered_map<uint64_t, Knote*> by_id;
  unsigned turn = 0;
};

// Ids in the outer set; the knotes' own start behind them.
constexpr uint64_t kFirstKnote = 2;

inline uint64_t NextId() {
  static uint64_t last = kFirstKnote;
  return ++last;
}

// ---------------------------------------------------------------------------------------- emulation_filters.cc

int Change(Queue& queue, const struct kevent& change);

// Puts a filter where it can fire, or evaluates it anew if it is there.
int Arm(Queue& queue, Knote& knote);
void Disarm(Queue& queue, const Knote& knote);
void Drop(Queue& queue, Knote& knote);
// As Drop, where the kernel has let go of it already.
void Forget(Queue& queue, Knote& knote);
// A new set in place of one with an entry that cannot be removed: its number is closed, its file is not.
void RebuildSet(Queue& queue, Side side);

int Join(int set, int fd, uint32_t events, uint64_t id);
// On a BSD only the queue itself has a descriptor. Ours move out of the way, so that a program which closes a
// number and opens another file finds that number free.
int Hidden(int fd);

bool NamesTheSameFile(const Knote& knote);
bool IsKind(int fd, mode_t kind);
bool HasPeer(int fd);
bool IsListening(int fd);
bool HasLowWater(const Knote& knote);
uint64_t TakeCount(const Knote& knote);

// ----------------------------------------------------------------------------------------- emulation_events.cc

// What there is to tell now, `room` events at most. Returns how many.
int Scan(Queue& queue, struct kevent* events, int room);

}  // namespace emulation
