// The kqueue backend (macOS and the BSDs). A read and a write filter a descriptor, a user event as the
// wake-up, a timer as the alarm of integrated mode. A kqueue forgets a descriptor when its number is closed
// here, whoever else holds the file, so there are no ghosts; and no child inherits it, so its number is never
// closed in one.
#include <errno.h>
#include <fcntl.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "fd.h"
#include "poller/poller.h"
#include "pretend.h"
#include "wakeup.h"

// OpenBSD had none for long.
#if !defined(EVFILT_USER)
#define EVFILT_USER 0
#define NOTE_TRIGGER 0
#endif

namespace forkbeard {

namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
// Darwin and NetBSD refuse to wait any longer (itimerfix).
constexpr int64_t kLongestWait = 100'000'000 * kNanosPerSecond;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanosPerSecond + now.tv_nsec;
}

// User data of our own filters; no slot is as high.
enum Own : uint32_t { kOwnWakeup = 0xffff'fff0, kOwnAlarm };
// No descriptor has this number: a filter of ours never meets the one that stands for a broken pipe (see
// MarkBroken).
constexpr uintptr_t kOwnIdent = std::numeric_limits<uintptr_t>::max();

static_assert(sizeof(void*) == 8, "the user data of a filter holds a slot and a generation");

void* Pack(uint32_t slot, uint32_t generation) {
  return reinterpret_cast<void*>(static_cast<uint64_t>(generation) << 32 | slot);
}

struct kevent Change(uintptr_t ident, int filter, int flags, void* data) {
  struct kevent change;
  EV_SET(&change, ident, filter, flags, 0, 0, data);
  return change;
}

// The alarm never goes off early, so a coarser unit is rounded up.
struct kevent AlarmChange(int64_t after) {
#if defined(NOTE_CRITICAL)
  constexpr unsigned kPrecise = NOTE_CRITICAL;  // Darwin may else put a timer off to save power
#else
  constexpr unsigned kPrecise = 0;
#endif
#if defined(NOTE_NSECONDS)
  constexpr unsigned kUnit = NOTE_NSECONDS;
  constexpr int64_t kNanosPerUnit = 1;
#else
  constexpr unsigned kUnit = 0;  // milliseconds
  constexpr int64_t kNanosPerUnit = 1'000'000;
#endif
  // A zero is a millisecond on some, an error on others.
  int64_t units = std::max<int64_t>(after / kNanosPerUnit + (after % kNanosPerUnit != 0), 1);
  struct kevent change = Change(kOwnIdent, EVFILT_TIMER, EV_ADD | EV_ONESHOT, Pack(kOwnAlarm, 0));
  change.fflags = kUnit | kPrecise;
  change.data = units;
  return change;
}

// What an interest wants of one filter.
enum class Watch : uint8_t {
  kNone,
  kLevel,
  kEdge,
  kEnd  // nothing but EV_EOF
};

struct Watches {
  Watch read;
  Watch write;
};

// Where an end shows. A socket whose writing side we have shut down has EV_EOF on its write filter as well,
// and that is no hangup: the write filter counts only where nothing can be read (and where the read filter
// would either stay silent for ever, FreeBSD's pipe_nfiltops, or be refused).
bool EndsOnWrite(int fd) { return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY; }

Watches Wanted(uint32_t mask, bool ends_on_write) {
  Watch wanted = mask & kEdge ? Watch::kEdge : Watch::kLevel;
  Watches watches = {mask & kRead ? wanted : Watch::kNone, mask & kWrite ? wanted : Watch::kNone};
  // Unlike epoll, a kqueue tells errors and hangups only to those who ask for a direction.
  if (mask & (kHangup | kError)) {
    Watch& side = ends_on_write ? watches.write : watches.read;
    if (side == Watch::kNone) side = Watch::kEnd;
  }
  return watches;
}

struct kevent AddChange(int fd, int filter, Watch watch, void* data) {
  struct kevent change = Change(fd, filter, EV_ADD | EV_RECEIPT, data);
  if (watch != Watch::kLevel) change.flags |= EV_CLEAR;
  if (watch == Watch::kEnd) {
    // More than any buffer holds. Where this is clamped (Darwin) or ignored (pipes), EV_CLEAR still keeps
    // data that nobody reads from being told over and over.
    change.fflags = NOTE_LOWAT;
    change.data = std::numeric_limits<int32_t>::max();
  }
  return change;
}

// Level-triggered filters are always ready, or only once, on files that cannot block (libuv/libuv#2428);
// poll(2) and the other backends say always, and so do we.
bool IsAlwaysReady(mode_t mode) { return S_ISREG(mode) || S_ISDIR(mode) || S_ISBLK(mode); }

// A device that has no filter: /dev/null on FreeBSD and Darwin. For a terminal it is an error, reading one
// may block.
bool HasNoFilter(int fd, mode_t mode, int error) {
  bool refused = error == -ENODEV || error == -EINVAL || error == -EOPNOTSUPP || error == -EPERM;
  return refused && S_ISCHR(mode) && !isatty(fd);
}

class KqueuePoller final : public Poller {
 public:
  int Open() {
    if (!has_user_events_) {
      int error = wakeup_.Open();
      if (error < 0) return error;
    }
    return RecreateQueue();
  }

  int fd() const override { return queue_.get(); }

  void Wake() override {
    if (!has_user_events_) return wakeup_.Signal();
    int saved = errno;
    // No EV_CLEAR here: FreeBSD would take it for "clear it now". The user data of the filter is set by every
    // change.
    struct kevent trigger = Change(kOwnIdent, EVFILT_USER, 0, Pack(kOwnWakeup, 0));
    trigger.fflags = NOTE_TRIGGER;
    kevent(queue_.get(), &trigger, 1, nullptr, 0, nullptr);
    errno = saved;
  }

  int SetAlarm(int64_t after) override {
    alarm_at_ = after < 0 ? -1 : Now() + after;
    // Older FreeBSD does not restart a timer that is added again. ENOENT is normal: it went off, or there was
    // none.
    struct kevent remove = Change(kOwnIdent, EVFILT_TIMER, EV_DELETE, nullptr);
    kevent(queue_.get(), &remove, 1, nullptr, 0, nullptr);
    if (after < 0) return 0;
    struct kevent add = AlarmChange(after);
    return kevent(queue_.get(), &add, 1, nullptr, 0, nullptr) < 0 ? -errno : 0;
  }

  // NOTE_ABSOLUTE and NOTE_ABSTIME are turned into a span when they are added: no kqueue tells that the clock
  // was set (libdispatch asks Mach for that, HOST_NOTIFY_CALENDAR_CHANGE).
  int SetWallAlarm(int64_t) override { return -ENOTSUP; }

 protected:
  int Register(uint32_t slot, const Interest& interest) override {
    int error = Apply(slot, interest, 0);
    if (error < 0) Unregister(slot, interest);  // one of two filters may be in
    return error;
  }

  int Update(uint32_t slot, const Interest& interest, uint32_t old_mask) override {
    return Apply(slot, interest, old_mask);
  }

  void Unregister(uint32_t slot, const Interest& interest) override {
    MendBroken(interest.fd);
    // Whatever is there. ENOENT and EBADF are normal: a filter that never was, a descriptor that is closed.
    struct kevent changes[] = {Change(interest.fd, EVFILT_READ, EV_DELETE | EV_RECEIPT, nullptr),
                               Change(interest.fd, EVFILT_WRITE, EV_DELETE | EV_RECEIPT, nullptr)};
    Submit(changes, slot, interest);
  }

  int WaitKernel(int64_t timeout, std::span<Event> out) override {
    if (kernel_events_.size() < out.size()) kernel_events_.resize(out.size());
    if (places_.size() < interests_.size()) places_.resize(interests_.size());
    int64_t nanos = std::min(timeout, kLongestWait);
    timespec time = {static_cast<time_t>(nanos / kNanosPerSecond),
                     static_cast<long>(nanos % kNanosPerSecond)};
    int capacity = static_cast<int>(std::min<size_t>(out.size(), std::numeric_limits<int>::max()));
    int ready =
        kevent(queue_.get(), nullptr, 0, kernel_events_.data(), capacity, timeout < 0 ? nullptr : &time);
    if (ready < 0) return -errno;
    size_t count = 0;
    for (int i = 0; i < ready; i++) {
      const struct kevent& event = kernel_events_[i];
      auto data = reinterpret_cast<uint64_t>(event.udata);
      auto slot = static_cast<uint32_t>(data);
      if (slot >= kOwnWakeup) {
        if (slot == kOwnWakeup && !has_user_events_) wakeup_.Drain();
        continue;
      }
      Event told;
      if (!Deliver(slot, static_cast<uint32_t>(data >> 32), 0, &told)) continue;
      const Interest& interest = interests_[slot];
      told.mask = Reported(event, interest);
      if (told.mask == 0) continue;
      if (WaitsForEnd(event, interest) && !(interest.mask & kEdge)) TellAgain(slot, interest, event.filter);
      // Both filters of a descriptor may have something to tell: still one event. `places_` is never cleared,
      // so it is believed only where the batch agrees.
      uint32_t place = places_[slot];
      if (place < count && out[place].slot == slot) {
        out[place].mask |= told.mask;
      } else {
        places_[slot] = static_cast<uint32_t>(count);
        out[count++] = told;
      }
    }
    return static_cast<int>(count);
  }

  // The child of a fork has no kqueue, and the number may name something else by now (libuv/libuv#1583,
  // python/cpython#110395).
  void LeaveToParent() override {
    queue_.Release();
    public_.Release();
    alarm_at_ = -1;  // the loop arms it anew
  }

  int RecreateKernel(bool forked) override {
    int error = forked && !has_user_events_ ? wakeup_.Reopen() : 0;
    if (error == 0) error = RecreateQueue();
    if (error < 0) return error;
    // A wake-up that was pending went with the old queue, and one too many does no harm.
    Wake();
    return alarm_at_ < 0 ? 0 : SetAlarm(std::max<int64_t>(alarm_at_ - Now(), 0));
  }

 private:
  int RecreateQueue() {
    Fd fresh(kqueue());
    if (!fresh) return -errno;
    // No race that kqueue1 or kqueuex would win: a kqueue is not inherited by fork, this keeps it from an
    // exec here.
    if (fcntl(fresh.get(), F_SETFD, FD_CLOEXEC) < 0) return -errno;
    queue_ = std::move(fresh);
    broken_.clear();
    struct kevent wakeup = has_user_events_
                               ? Change(kOwnIdent, EVFILT_USER, EV_ADD | EV_CLEAR, Pack(kOwnWakeup, 0))
                               : Change(wakeup_.fd(), EVFILT_READ, EV_ADD, Pack(kOwnWakeup, 0));
    return kevent(queue_.get(), &wakeup, 1, nullptr, 0, nullptr) < 0 ? -errno : 0;
  }

  // Brings the filters of a descriptor from one mask to another. What stays is added again all the same: that
  // changes nothing, and repairs a descriptor that was closed and opened again behind our back.
  int Apply(uint32_t slot, const Interest& interest, uint32_t old_mask) {
    struct stat file;
    if (fstat(interest.fd, &file) < 0) return -errno;
    if (IsAlwaysReady(file.st_mode)) return -EPERM;
    MendBroken(interest.fd);
    bool ends_on_write = EndsOnWrite(interest.fd);
    Watches before = Wanted(old_mask, ends_on_write);
    Watches after = Wanted(interest.mask, ends_on_write);
    std::array<struct kevent, 4> changes;
    size_t count = 0;
    auto plan = [&](int filter, Watch was, Watch is) {
      // An EV_ADD of what is there already changes neither EV_CLEAR nor its absence.
      if (was != Watch::kNone && was != is) {
        changes[count++] = Change(interest.fd, filter, EV_DELETE | EV_RECEIPT, nullptr);
      }
      if (is != Watch::kNone) {
        changes[count++] = AddChange(interest.fd, filter, is, Pack(slot, interest.generation));
      }
    };
    plan(EVFILT_READ, before.read, after.read);
    plan(EVFILT_WRITE, before.write, after.write);
    int error = Submit(std::span(changes).first(count), slot, interest);
    return HasNoFilter(interest.fd, file.st_mode, error) ? -EPERM : error;
  }

  // With EV_RECEIPT every change gets an answer of its own, and no event is fetched along.
  int Submit(std::span<struct kevent> changes, uint32_t slot, const Interest& interest) {
    std::array<struct kevent, 4> receipts;
    timespec now = {};
    int count = kevent(queue_.get(), changes.data(), static_cast<int>(changes.size()), receipts.data(),
                       static_cast<int>(changes.size()), &now);
    if (count < 0) return -errno;
    int result = 0;
    for (const struct kevent& receipt : std::span(receipts).first(count)) {
      if (!(receipt.flags & EV_ERROR) || receipt.data == 0) continue;
      // Deleted already: one-sided interests, or closed behind our back.
      if (receipt.data == ENOENT) continue;
      int error = -static_cast<int>(receipt.data);
      if (error == -EPIPE) error = MarkBroken(slot, interest);
      if (result == 0) result = error;
    }
    return result;
  }

  // A pipe whose reader is gone takes no write filter (EPIPE), yet whoever waits for it must be told. An
  // event that we set off ourselves stands for it: it makes the kqueue readable, as a filter would, and stays
  // until it is mended. Without user events, a timer that goes off every millisecond does.
  int MarkBroken(uint32_t slot, const Interest& interest) {
    bool once = interest.mask & kEdge;
    void* data = Pack(slot, interest.generation);
    struct kevent changes[2] = {};
    int count = 0;
    if (has_user_events_) {
      changes[count++] = Change(interest.fd, EVFILT_USER, EV_ADD | (once ? EV_CLEAR : 0), data);
      // In a second step, for FreeBSD does not look at NOTE_TRIGGER when it adds.
      changes[count] = Change(interest.fd, EVFILT_USER, 0, data);
      changes[count++].fflags = NOTE_TRIGGER;
    } else {
      changes[count] = Change(interest.fd, EVFILT_TIMER, EV_ADD | (once ? EV_ONESHOT : 0), data);
      changes[count++].data = 1;
    }
    if (kevent(queue_.get(), changes, count, nullptr, 0, nullptr) < 0) return -errno;
    broken_.push_back(interest.fd);
    return 0;
  }

  void MendBroken(int fd) {
    if (std::erase(broken_, fd) == 0) return;
    struct kevent remove = Change(fd, has_user_events_ ? EVFILT_USER : EVFILT_TIMER, EV_DELETE, nullptr);
    kevent(queue_.get(), &remove, 1, nullptr, 0, nullptr);
  }

  // EV_CLEAR keeps an interest in nothing but the end from hearing of data over and over. The end itself is told as
  // anything else, until it is not asked for any more: adding the filter again has the kernel look again.
  void TellAgain(uint32_t slot, const Interest& interest, int filter) {
    struct kevent again = AddChange(interest.fd, filter, Watch::kEnd, Pack(slot, interest.generation));
    Submit(std::span(&again, 1), slot, interest);
  }

  // Ready with less than the low-water mark, which nothing but a full buffer lowers, is an error, on a datagram socket.
  // (A listening one knows no mark, and a stream's error comes with its end.)
  static bool IsError(const struct kevent& event) {
    int fd = static_cast<int>(event.ident);
    int type = 0;
    int size = 0;
    socklen_t length = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM &&
           getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length) == 0 && event.data < size;
  }

  static bool WaitsForEnd(const struct kevent& event, const Interest& interest) {
    if (event.filter == EVFILT_READ) return !(interest.mask & kRead);
    return event.filter == EVFILT_WRITE && !(interest.mask & kWrite);
  }

  static uint32_t Reported(const struct kevent& event, const Interest& interest) {
    if (event.filter != EVFILT_READ && event.filter != EVFILT_WRITE) {
      return (interest.mask & kWrite) | kHangup;  // see MarkBroken
    }
    bool reads = event.filter == EVFILT_READ;
    uint32_t mask = interest.mask & (reads ? kRead : kWrite);
    if (!(event.flags & EV_EOF)) {
      // Whoever waits for the end alone is not told of data (see AddChange), but of a datagram socket's error, which
      // makes it ready and leaves no other trace.
      return reads && WaitsForEnd(event, interest) && IsError(event) ? uint32_t{kError} : mask;
    }
    if (reads && interest.mask & kHangup) mask |= kHalfClosed;
    if (!reads && EndsOnWrite(interest.fd)) mask |= kHangup;
    if (event.fflags != 0) mask |= kError;  // the socket's pending error
    return mask;
  }

  Fd queue_;
  Wakeup wakeup_;  // used only where there are no user events
  int64_t alarm_at_ = -1;
  std::vector<struct kevent> kernel_events_;
  std::vector<uint32_t> places_;  // by slot: where in the batch its event is
  std::vector<int> broken_;       // descriptors that MarkBroken stands for
  bool has_user_events_ = EVFILT_USER != 0 && !PretendMissing("EVFILT_USER");
};

}  // namespace

std::unique_ptr<Poller> CreateKqueue(int* error) {
  auto poller = std::make_unique<KqueuePoller>();
  *error = poller->Open();
  if (*error < 0) return nullptr;
  return poller;
}

}  // namespace forkbeard
