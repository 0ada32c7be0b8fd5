// The epoll backend (Linux). One set, one wake-up, and one or two timerfds for the alarms of integrated mode.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "fd.h"
#include "poller/bits.h"
#include "poller/poller.h"
#include "pretend.h"
#include "wakeup.h"

// Linux 5.11. Called by number: a C library that knows the name would tie the binary to its version.
#if !defined(SYS_epoll_pwait2)
#define SYS_epoll_pwait2 441
#endif
#if !defined(EPOLLEXCLUSIVE)
#define EPOLLEXCLUSIVE (1u << 28)
#endif

namespace forkbeard {

namespace {

constexpr int64_t kNanosPerMilli = 1'000'000;
constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr uint32_t kWaitsPerProbe = 64;

timespec ToTimespec(int64_t nanos) {
  return {static_cast<time_t>(nanos / kNanosPerSecond), static_cast<long>(nanos % kNanosPerSecond)};
}

// User data of our own descriptors; no slot is as high.
enum Own : uint32_t { kOwnWakeup = 0xffff'fff0, kOwnAlarm, kOwnWallAlarm };

uint64_t Pack(uint32_t slot, uint32_t generation) { return static_cast<uint64_t>(generation) << 32 | slot; }

constexpr KernelBits kBits = {EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLRDHUP, EPOLLERR};

uint32_t EventsOf(uint32_t mask) {
  // The kernel takes no RDHUP together with EXCLUSIVE.
  uint32_t events = Asked(kBits, mask & kExclusive ? mask & ~kHangup : mask);
  if (mask & kEdge) events |= EPOLLET;
  if (mask & kExclusive) events |= EPOLLEXCLUSIVE;
  return events;
}

class EpollPoller final : public Poller {
 public:
  int Open() {
    int error = wakeup_.Open();
    if (error == 0) error = OpenTimer(CLOCK_MONOTONIC, &alarm_);
    return error < 0 ? error : RecreateSet();
  }

  int fd() const override { return set_.get(); }
  void Wake() override { wakeup_.Signal(); }

  int SetAlarm(int64_t after) override {
    itimerspec when = {};
    // A zero would disarm it.
    if (after >= 0) when.it_value = ToTimespec(std::max<int64_t>(after, 1));
    if (timerfd_settime(alarm_.get(), 0, &when, nullptr) == 0) return 0;
    // Closed behind our back (EBADF), and the number is a stranger's (EINVAL).
    alarm_.Release();
    int error = OpenTimer(CLOCK_MONOTONIC, &alarm_);
    if (error == 0) error = AddOwn(set_.get(), alarm_.get(), kOwnAlarm);
    if (error < 0) return error;
    return timerfd_settime(alarm_.get(), 0, &when, nullptr) < 0 ? -errno : 0;
  }

  int SetWallAlarm(int64_t at) override {
    if (!wall_alarm_) {
      if (at < 0) return 0;
      Fd fresh;
      int error = OpenTimer(CLOCK_REALTIME, &fresh);
      if (error == 0) error = AddOwn(set_.get(), fresh.get(), kOwnWallAlarm);
      if (error < 0) return error;
      wall_alarm_ = std::move(fresh);
    }
    itimerspec when = {};
    if (at >= 0) when.it_value = ToTimespec(std::max<int64_t>(at, 1));
    int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    // ECANCELED: the clock was set since the last call; the timer is armed all the same.
    if (timerfd_settime(wall_alarm_.get(), flags, &when, nullptr) < 0 && errno != ECANCELED) return -errno;
    return 0;
  }

 protected:
  int Register(uint32_t slot, const Interest& interest) override {
    epoll_event event = MakeEvent(slot, interest);
    if (Control(EPOLL_CTL_ADD, interest.fd, &event) == 0) return 0;
    if (errno != EEXIST) return -errno;
    // What the kernel itself says of its set.
    if (IsOwn(interest.fd)) return -EINVAL;
    // Left over: the number was closed here, its file lives on in a duplicate, and now the number names it again.
    // Taken out and not modified, because it may be an exclusive one.
    Control(EPOLL_CTL_DEL, interest.fd, &event);
    return Control(EPOLL_CTL_ADD, interest.fd, &event) == 0 ? 0 : -errno;
  }

  int Update(uint32_t slot, const Interest& interest, uint32_t old_mask) override {
    epoll_event event = MakeEvent(slot, interest);
    if ((interest.mask | old_mask) & kExclusive) {
      // The kernel modifies no exclusive entry, and refuses the flag itself in a modification (EINVAL).
      Control(EPOLL_CTL_DEL, interest.fd, &event);
    } else {
      if (Control(EPOLL_CTL_MOD, interest.fd, &event) == 0) return 0;
      if (errno != ENOENT) return -errno;
    }
    // Closed and opened again behind our back, or just taken out.
    return Control(EPOLL_CTL_ADD, interest.fd, &event) == 0 ? 0 : -errno;
  }

  void Unregister(uint32_t slot, const Interest& interest) override {
    epoll_event event = MakeEvent(slot, interest);  // kernels before 2.6.9 want one
    Control(EPOLL_CTL_DEL, interest.fd, &event);
  }

  int WaitKernel(int64_t timeout, std::span<Event> out) override {
    if (kernel_events_.size() < out.size()) kernel_events_.resize(out.size());
    int ready = WaitSet(timeout, static_cast<int>(std::min<size_t>(out.size(), INT_MAX)));
    if (ready < 0) return -errno;
    size_t count = 0;
    for (int i = 0; i < ready; i++) {
      const epoll_event& event = kernel_events_[i];
      uint64_t data = event.data.u64;
      auto slot = static_cast<uint32_t>(data);
      if (slot >= kOwnWakeup) {
        // The timerfds are edge-triggered and need no reading.
        if (slot == kOwnWakeup) wakeup_.Drain();
        continue;
      }
      if (Deliver(slot, static_cast<uint32_t>(data >> 32), Reported(kBits, event.events), &out[count]))
        count++;
    }
    // A ghost whose watcher lives comes in every batch: looking at one event now and then finds it, and costs nothing.
    if (count > 0 && ++waits_ % kWaitsPerProbe == 0) Probe(out[waits_ / kWaitsPerProbe % count].slot);
    return static_cast<int>(count);
  }

  void DrainWakeup() override { wakeup_.Drain(); }

  // The alarms, too: a timerfd would be armed and disarmed by two processes.
  void LeaveToParent() override {
    set_.Reset();
    public_.Reset();
    alarm_.Reset();
    wall_alarm_.Reset();
  }

  int RecreateKernel(bool forked) override {
    if (forked) {
      int error = wakeup_.Reopen();
      if (error == 0 && !alarm_) error = OpenTimer(CLOCK_MONOTONIC, &alarm_);
      if (error < 0) return error;
    }
    return RecreateSet();
  }

 private:
  static int CreateSet() {
    if (!PretendMissing("epoll_create1")) {
      int fd = epoll_create1(EPOLL_CLOEXEC);
      if (fd >= 0 || errno != ENOSYS) return fd;
    }
    int fd = epoll_create(256);
    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
  }

  int RecreateSet() {
    Fd fresh(CreateSet());
    if (!fresh) return -errno;
    int error = AddOwn(fresh.get(), wakeup_.fd(), kOwnWakeup);
    if (error == 0) error = AddOwn(fresh.get(), alarm_.get(), kOwnAlarm);
    if (error == 0 && wall_alarm_) error = AddOwn(fresh.get(), wall_alarm_.get(), kOwnWallAlarm);
    if (error == 0) set_ = std::move(fresh);
    return error;
  }

  static int OpenTimer(int clock, Fd* timer) {
    *timer = Fd(timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK));
    return *timer ? 0 : -errno;
  }

  static int AddOwn(int set, int fd, Own own) {
    epoll_event event = {};
    event.events = own == kOwnWakeup ? EPOLLIN : EPOLLIN | EPOLLET;
    event.data.u64 = own;
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
  }

  bool IsOwn(int fd) const { return fd == wakeup_.fd() || fd == alarm_.get() || fd == wall_alarm_.get(); }

  int Control(int operation, int fd, epoll_event* event) {
    return epoll_ctl(set_.get(), operation, fd, event);
  }

  // Closed here while it was watched, its file lives on in a duplicate, and the kernel goes on reporting it: the number
  // names nothing, or something else. A live entry is refused as being there, and stays as it is.
  void Probe(uint32_t slot) {
    const Interest& interest = interests_[slot];
    epoll_event event = MakeEvent(slot, interest);
    if (Control(EPOLL_CTL_ADD, interest.fd, &event) == 0 || errno == EBADF || errno == EPERM) NoteGhost();
  }

  static epoll_event MakeEvent(uint32_t slot, const Interest& interest) {
    epoll_event event = {};
    event.events = EventsOf(interest.mask);
    event.data.u64 = Pack(slot, interest.generation);
    return event;
  }

  int WaitSet(int64_t timeout, int capacity) {
    // The plain call is the cheaper one where no time has to be told.
    if (timeout > 0 && has_pwait2_) {
      timespec time = ToTimespec(timeout);
      long ready = syscall(SYS_epoll_pwait2, set_.get(), kernel_events_.data(), capacity, &time, nullptr, 0);
      // EPERM: sandboxes that filter calls they do not know.
      if (ready >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(ready);
      has_pwait2_ = false;
    }
    int millis = -1;
    if (timeout >= 0) {
      millis = static_cast<int>(std::min<int64_t>((timeout + kNanosPerMilli - 1) / kNanosPerMilli, INT_MAX));
    }
    return epoll_wait(set_.get(), kernel_events_.data(), capacity, millis);
  }

  Fd set_;
  Wakeup wakeup_;
  Fd alarm_;
  Fd wall_alarm_;
  std::vector<epoll_event> kernel_events_;
  uint32_t waits_ = 0;  // those that had events
  bool has_pwait2_ = !PretendMissing("epoll_pwait2");
};

}  // namespace

std::unique_ptr<Poller> CreateEpoll(int* error) {
  auto poller = std::make_unique<EpollPoller>();
  *error = poller->Open();
  if (*error < 0) return nullptr;
  return poller;
}

}  // namespace forkbeard
