// The poll(2) backend, for what has neither epoll nor kqueue. There is no kernel object: the table of pollfds is
// walked at every wait.
//
// Two things that the kernel does elsewhere are done here by hand. Edge-triggered interests remember what they were
// told and are told again when that was seen gone and came back, or when another number of bytes waits than before;
// while something told is still true, poll cannot sleep on it, so the wait is cut into short pieces. What went and came
// back between two looks cannot be told from what stayed (a request read, the next of the same length arrived), so it
// is told again after a while: an edge may be told twice here, but never lost. And because nothing can be embedded in
// another loop's poll, a thread (the relay) sleeps in poll and calls.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>

#include <algorithm>
#include <climits>

#include "poller/bits.h"
#include "poller/poller.h"
#include "wakeup.h"

namespace forkbeard {

namespace {

constexpr int64_t kNanosPerMilli = 1'000'000;
constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kEdgeRecheck = 5 * kNanosPerMilli;
constexpr int64_t kWriteDoubtLongest = 1000 * kNanosPerMilli;

#if defined(POLLRDHUP)
constexpr short kPeerClosed = POLLRDHUP;
#else
constexpr short kPeerClosed = 0;
#endif

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanosPerSecond + now.tv_nsec;
}

int Poll(pollfd* fds, size_t count, int64_t timeout) {
#if defined(__linux__)
  timespec time = {static_cast<time_t>(timeout / kNanosPerSecond),
                   static_cast<long>(timeout % kNanosPerSecond)};
  int ready = ppoll(fds, static_cast<nfds_t>(count), timeout < 0 ? nullptr : &time, nullptr);
#else
  int millis = -1;
  if (timeout >= 0) {
    millis = static_cast<int>(std::min<int64_t>((timeout + kNanosPerMilli - 1) / kNanosPerMilli, INT_MAX));
  }
  int ready = poll(fds, static_cast<nfds_t>(count), millis);
#endif
  return ready < 0 ? -errno : ready;
}

constexpr KernelBits kBits = {POLLIN, POLLOUT, POLLHUP, kPeerClosed, POLLERR};

short EventsOf(uint32_t mask) { return static_cast<short>(Asked(kBits, mask)); }

uint32_t MaskOf(short events) {
  // Widened without the sign: the bits are what counts.
  uint32_t mask = Reported(kBits, static_cast<unsigned short>(events));
  return events & POLLNVAL ? mask | kInvalid : mask;
}

int Unread(int fd) {
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

// Whether a descriptor is open: what the other kernels say when an interest is changed.
int Probe(int fd) {
  pollfd probe = {fd, 0, 0};
  int result = Poll(&probe, 1, 0);
  if (result < 0 && result != -EINTR) return result;
  return probe.revents & POLLNVAL ? -EBADF : 0;
}

class PollPoller final : public Poller {
 public:
  ~PollPoller() override { StopRelay(); }

  int Open() {
    int error = wakeup_.Open();
    if (error < 0) return error;
    fds_.push_back({wakeup_.fd(), POLLIN, 0});
    entries_.push_back({});
    return 0;
  }

  int fd() const override { return -1; }
  void Wake() override { wakeup_.Signal(); }

  int SetAlarm(int64_t after) override {
    if (relay_ == nullptr) return 0;
    pthread_mutex_lock(&relay_->mutex);
    relay_->alarm = after < 0 ? -1 : Now() + after;
    pthread_mutex_unlock(&relay_->mutex);
    relay_->changed.Signal();
    return 0;
  }
  int SetWallAlarm(int64_t) override { return -ENOTSUP; }

  int StartRelay(void (*ready)(void*), void* data) override;
  void RelayDone() override;
  void StopRelay() override;

 protected:
  int Register(uint32_t slot, const Interest& interest) override {
    if (int error = Probe(interest.fd); error < 0) return error;
    if (slot >= where_.size()) where_.resize(slot + 1);
    where_[slot] = fds_.size();
    fds_.push_back({interest.fd, EventsOf(interest.mask), 0});
    entries_.push_back({slot, interest.generation, (interest.mask & kEdge) != 0});
    Changed();
    return 0;
  }

  int Update(uint32_t slot, const Interest& interest, uint32_t) override {
    if (int error = Probe(interest.fd); error < 0) return error;
    size_t index = where_[slot];
    fds_[index].events = EventsOf(interest.mask);
    entries_[index].edge = (interest.mask & kEdge) != 0;
    entries_[index].told = 0;  // as the other kernels do: a change tells anew
    Changed();
    return 0;
  }

  void Unregister(uint32_t slot, const Interest&) override {
    size_t index = where_[slot];
    fds_[index] = fds_.back();
    entries_[index] = entries_.back();
    where_[entries_[index].slot] = index;
    fds_.pop_back();
    entries_.pop_back();
    Changed();
  }

  int WaitKernel(int64_t timeout, std::span<Event> out) override {
    for (;;) {
      bool parked = PrepareEdges();
      int64_t piece = parked && (timeout < 0 || timeout > kEdgeRecheck) ? kEdgeRecheck : timeout;
      int ready = Poll(fds_.data(), fds_.size(), piece);
      RestoreEdges();
      if (ready < 0) return ready;
      if (fds_[0].revents != 0) {
        if (!wakeup_.Drain()) {
          wakeup_.Renew();
          fds_[0].fd = wakeup_.fd();  // poll passes over a -1
        }
        ready--;
        if (ready == 0) return 0;
      }
      if (ready > 0) {
        int count = Collect(out);
        if (count > 0) return count;
      }
      if (piece == timeout) return 0;
      if (timeout > 0) timeout -= piece;
    }
  }

  // The thread stayed there, so nobody waits for it. Its lock, which may be held for ever, has no destructor.
  void LeaveToParent() override { relay_.reset(); }

  int RecreateKernel(bool forked) override {
    if (forked) {
      int error = wakeup_.Reopen();
      if (error < 0) return error;
    }
    StopRelay();
    fds_.resize(1);
    entries_.resize(1);
    return 0;
  }

 private:
  // Beside each pollfd, same index. The first pair is the wake-up's.
  struct Entry {
    uint32_t slot = 0;
    uint32_t generation = 0;
    bool edge = false;
    short told = 0;  // what an edge-triggered interest was told and is, as far as seen, still true
    int unread = 0;  // how many bytes waited then
    int64_t read_told_at = 0;
    int64_t write_told_at = 0;
    // How long "writable" is believed to be what was told: an idle socket is so for hours, so ever longer.
    int64_t write_doubt = kEdgeRecheck;
  };

  // The thread that sleeps for a loop which runs inside somebody else's.
  struct Relay {
    pthread_t thread;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t resumed = PTHREAD_COND_INITIALIZER;
    Wakeup changed;  // the table or the alarm changed, or it shall end
    std::vector<pollfd> fds;
    int64_t alarm = -1;    // the loop's next deadline
    int64_t recheck = -1;  // when to look again at what edge-triggered interests were told
    bool told = false;     // ready was called; rest until RelayDone
    bool ending = false;
    void (*ready)(void*) = nullptr;
    void* data = nullptr;
  };

  // Takes what edge-triggered interests know already out of the table. True when any of it is still so.
  bool PrepareEdges() {
    bool parked = false;
    for (size_t i = 1; i < fds_.size(); i++) {
      Entry& entry = entries_[i];
      if (!entry.edge || entry.told == 0) continue;
      pollfd now = {fds_[i].fd, fds_[i].events, 0};
      if (Poll(&now, 1, 0) < 0) continue;
      short seen = entry.told & now.revents;
      if (!(seen & POLLOUT)) entry.write_doubt = kEdgeRecheck;
      if (seen & POLLIN && (Unread(now.fd) != entry.unread || Now() >= entry.read_told_at + kEdgeRecheck)) {
        seen &= ~POLLIN;
      }
      if (seen & POLLOUT && Now() >= entry.write_told_at + entry.write_doubt) {
        seen &= ~POLLOUT;
        entry.write_doubt = std::min(2 * entry.write_doubt, kWriteDoubtLongest);
      }
      entry.told = seen;
      if (entry.told == 0) continue;
      parked = true;
      // Something untold: leave it in, Collect sorts it out. Otherwise keep it out of this wait.
      if ((now.revents & ~entry.told) == 0) fds_[i].fd = ~fds_[i].fd;
    }
    return parked;
  }

  void RestoreEdges() {
    for (size_t i = 1; i < fds_.size(); i++) {
      if (fds_[i].fd < 0) {
        fds_[i].fd = ~fds_[i].fd;
        fds_[i].revents = 0;
      }
    }
  }

  int Collect(std::span<Event> out) {
    size_t count = 0;
    size_t tracked = fds_.size() - 1;
    for (size_t step = 0; step < tracked && count < out.size(); step++) {
      // Starting where the last batch ended keeps it fair when not all fits.
      if (next_ >= tracked) next_ = 0;
      size_t index = 1 + next_++;
      short events = fds_[index].revents;
      if (events == 0) continue;
      Entry& entry = entries_[index];
      if (entry.edge) {
        events &= ~entry.told;
        if (events == 0) continue;
        entry.told |= events;
        if (events & POLLIN) {
          entry.unread = Unread(fds_[index].fd);
          entry.read_told_at = Now();
        }
        if (events & POLLOUT) entry.write_told_at = Now();
      }
      if (Deliver(entry.slot, entry.generation, MaskOf(events), &out[count])) count++;
    }
    return static_cast<int>(count);
  }

  void Changed() {
    if (relay_ == nullptr) return;
    pthread_mutex_lock(&relay_->mutex);
    bool resting = relay_->told;
    pthread_mutex_unlock(&relay_->mutex);
    // A relay at rest copies the table anyway before it sleeps again.
    if (!resting) {
      CopyTable();
      relay_->changed.Signal();
    }
  }

  void CopyTable() {
    bool parked = PrepareEdges();
    pthread_mutex_lock(&relay_->mutex);
    relay_->fds.assign(fds_.begin(), fds_.end());
    relay_->recheck = parked ? Now() + kEdgeRecheck : -1;
    pthread_mutex_unlock(&relay_->mutex);
    RestoreEdges();
  }

  static void* RunRelay(void* argument);

  Wakeup wakeup_;
  std::vector<pollfd> fds_;
  std::vector<Entry> entries_;
  std::vector<size_t> where_;  // slot to index
  size_t next_ = 0;
  std::unique_ptr<Relay> relay_;
};

int PollPoller::StartRelay(void (*ready)(void*), void* data) {
  StopRelay();
  auto relay = std::make_unique<Relay>();
  int error = relay->changed.Open();
  if (error < 0) return error;
  relay->ready = ready;
  relay->data = data;
  relay_ = std::move(relay);
  CopyTable();
  // Signals are for the threads that expect them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  error = pthread_create(&relay_->thread, nullptr, RunRelay, relay_.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
#if defined(__linux__)
  // For whoever lists the threads, before a fork say.
  if (error == 0) pthread_setname_np(relay_->thread, "forkbeard-poll");
#endif
  if (error != 0) relay_.reset();
  return -error;
}

void PollPoller::RelayDone() {
  if (relay_ == nullptr) return;
  CopyTable();
  pthread_mutex_lock(&relay_->mutex);
  relay_->told = false;
  pthread_cond_signal(&relay_->resumed);
  pthread_mutex_unlock(&relay_->mutex);
}

void PollPoller::StopRelay() {
  if (relay_ == nullptr) return;
  pthread_mutex_lock(&relay_->mutex);
  relay_->ending = true;
  pthread_cond_signal(&relay_->resumed);
  pthread_mutex_unlock(&relay_->mutex);
  relay_->changed.Signal();
  wakeup_.Signal();  // it sleeps on that as well, should somebody have closed the other one
  pthread_join(relay_->thread, nullptr);
  relay_.reset();
}

void* PollPoller::RunRelay(void* argument) {
  auto* relay = static_cast<Relay*>(argument);
  std::vector<pollfd> fds;
  pthread_mutex_lock(&relay->mutex);
  for (;;) {
    while (relay->told && !relay->ending) pthread_cond_wait(&relay->resumed, &relay->mutex);
    if (relay->ending) break;
    fds.assign(relay->fds.begin(), relay->fds.end());
    int64_t until = relay->recheck;
    if (until < 0 || (relay->alarm >= 0 && relay->alarm < until)) until = relay->alarm;
    pthread_mutex_unlock(&relay->mutex);

    fds.push_back({relay->changed.fd(), POLLIN, 0});
    int64_t timeout = until < 0 ? Poller::kForever : std::max<int64_t>(0, until - Now());
    int ready = Poll(fds.data(), fds.size(), timeout);
    bool changed = ready > 0 && fds.back().revents != 0;
    bool broken = changed && !relay->changed.Drain();

    pthread_mutex_lock(&relay->mutex);
    if (broken) relay->changed.Renew();
    if (ready == -EINTR || (changed && ready == 1)) continue;
    if (relay->alarm >= 0 && Now() >= relay->alarm) relay->alarm = -1;
    if (relay->recheck >= 0 && Now() >= relay->recheck) relay->recheck = -1;
    relay->told = true;
    relay->ready(relay->data);
  }
  pthread_mutex_unlock(&relay->mutex);
  return nullptr;
}

}  // namespace

std::unique_ptr<Poller> CreatePoll(int* error) {
  auto poller = std::make_unique<PollPoller>();
  *error = poller->Open();
  if (*error < 0) return nullptr;
  return poller;
}

}  // namespace forkbeard
