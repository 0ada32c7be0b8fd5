// What all backends have in common: the table of interests, always-ready descriptors, ghosts, interrupted waits.
#include "poller/poller.h"

#include <errno.h>
#include <time.h>

#include <algorithm>

#include "descriptors.h"

namespace forkbeard {

namespace {

// Slots are dense and chosen by us; the limit only keeps a broken caller from asking for all of the memory.
constexpr uint32_t kMaxSlot = 1u << 27;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

}  // namespace

std::span<const Backend> Poller::Available() {
  static constexpr Backend kBackends[] = {
#if defined(__linux__)
      Backend::kEpoll,
#endif
#if defined(FORKBEARD_KQUEUE) || !defined(__linux__)
      Backend::kKqueue,
#endif
      Backend::kPoll,
  };
  return kBackends;
}

std::unique_ptr<Poller> Poller::Create(Backend backend, int* error) {
  switch (backend) {
#if defined(__linux__)
    case Backend::kEpoll:
      return CreateEpoll(error);
#endif
#if defined(FORKBEARD_KQUEUE) || !defined(__linux__)
    case Backend::kKqueue:
      return CreateKqueue(error);
#endif
    case Backend::kPoll:
      return CreatePoll(error);
    default:
      *error = -ENOTSUP;
      return nullptr;
  }
}

int Poller::PublicFd() {
  if (!public_ && fd() >= 0) {
    int copy = Duplicate(fd(), 0);
    if (copy < 0) return fd();
    public_ = Fd(copy);
  }
  return public_.get();
}

Poller::Interest* Poller::Find(uint32_t slot) {
  if (slot >= interests_.size() || interests_[slot].state == Interest::State::kFree) return nullptr;
  return &interests_[slot];
}

int Poller::Add(uint32_t slot, uint32_t generation, int fd, uint32_t mask) {
  if (slot > kMaxSlot || fd < 0) return -EINVAL;
  if (Find(slot) != nullptr) return -EEXIST;
  if (slot >= interests_.size()) interests_.resize(std::max<size_t>(slot + 1, interests_.size() * 2));
  interests_[slot] = {fd, generation, mask, Interest::State::kFree};
  int error = Enter(slot);
  if (error == 0) interest_count_++;
  return error;
}

// Takes an interest into the kernel. Its state is kFree when that fails.
int Poller::Enter(uint32_t slot) {
  Interest& interest = interests_[slot];
  int error = forked_ ? 0 : Register(slot, interest);
  if (error == -EPERM) {
    interest.state = Interest::State::kAlwaysReady;
    always_ready_++;
    return 0;
  }
  interest.state = error < 0 ? Interest::State::kFree : Interest::State::kKernel;
  return error;
}

// Takes it out again, wherever it was.
void Poller::Leave(uint32_t slot) {
  Interest& interest = interests_[slot];
  switch (interest.state) {
    case Interest::State::kKernel:
      if (!forked_) Unregister(slot, interest);
      break;
    case Interest::State::kAlwaysReady:
      always_ready_--;
      break;
    case Interest::State::kFailed:
      std::erase_if(failed_, [slot](const Failure& failure) { return failure.slot == slot; });
      break;
    case Interest::State::kTold:
    case Interest::State::kFree:
      break;
  }
  interest.state = Interest::State::kFree;
}

int Poller::Modify(uint32_t slot, uint32_t mask) {
  Interest* interest = Find(slot);
  if (interest == nullptr) return -ENOENT;
  uint32_t old_mask = interest->mask;
  interest->mask = mask;
  if (interest->state == Interest::State::kKernel && !forked_) {
    int error = Update(slot, *interest, old_mask);
    if (error != -EPERM) return error;
    // The number names a regular file by now.
  }
  // An always-ready one is entered anew as well: nobody tells us when the file is closed and its number serves a socket.
  Leave(slot);
  int error = Enter(slot);
  // Still there for a Modify that comes when the number names something again.
  if (error < 0) interest->state = Interest::State::kTold;
  return error;
}

void Poller::Remove(uint32_t slot) {
  if (Find(slot) == nullptr) return;
  Leave(slot);
  interests_[slot] = Interest{};
  interest_count_--;
}

bool Poller::Deliver(uint32_t slot, uint32_t generation, uint32_t mask, Event* out) {
  if (slot >= interests_.size() || interests_[slot].state != Interest::State::kKernel ||
      interests_[slot].generation != generation) {
    NoteGhost();
    return false;
  }
  *out = {slot, generation, mask};
  return true;
}

int Poller::Wait(int64_t timeout, std::span<Event> out) {
  if (out.empty()) return -EINVAL;
  // If the kernel refuses (no descriptor is free) the old objects do, ghosts and all, until it does not.
  if (ghosts_) Recreate();
  if (HasImmediate()) timeout = 0;
  // Real events come first, but they must not starve what is always ready.
  size_t reserved = std::min(always_ready_ + failed_.size(), out.size() / 2);
  if (IsWanted()) timeout = 0;
  int64_t deadline = timeout > 0 ? Now() + timeout : 0;
  int count = 0;
  // Nobody but he who wants it has anything to tell.
  has_skipped_ = interest_count_ == 0 && IsWanted();
  while (!has_skipped_ && (count = WaitKernel(timeout, out.first(out.size() - reserved))) == -EINTR) {
    if (IsWanted()) {
      count = 0;
      break;
    }
    if (timeout > 0) timeout = std::max<int64_t>(0, deadline - Now());
  }
  if (attention_ != nullptr) attention_->Fetch();
  if (count < 0 || !HasImmediate()) return count;
  return count + static_cast<int>(ReportImmediate(out.subspan(count)));
}

size_t Poller::ReportImmediate(std::span<Event> out) {
  size_t count = 0;
  while (!failed_.empty() && count < out.size()) {
    auto [slot, error] = failed_.back();
    failed_.pop_back();
    interests_[slot].state = Interest::State::kTold;
    out[count++] = {slot, interests_[slot].generation, kInvalid | ReportedErrno(-error)};
  }
  size_t left = always_ready_;
  for (size_t step = 0; step < interests_.size() && left > 0 && count < out.size(); step++) {
    uint32_t slot = next_always_ready_++;
    if (next_always_ready_ >= interests_.size()) next_always_ready_ = 0;
    if (slot >= interests_.size()) continue;
    Interest& interest = interests_[slot];
    if (interest.state != Interest::State::kAlwaysReady) continue;
    left--;
    uint32_t mask = interest.mask & (kRead | kWrite);
    if (interest.mask & kEdge || mask == 0) {
      interest.state = Interest::State::kTold;
      always_ready_--;
    }
    if (mask != 0) out[count++] = {slot, interest.generation, mask};
  }
  return count;
}

int Poller::StartRelay(void (*)(void*), void*) { return -ENOTSUP; }

void Poller::Forked() {
  if (forked_) return;
  forked_ = true;
  LeaveToParent();
}

int Poller::Recreate() {
  int error = RecreateKernel(forked_);
  if (error < 0) return error;
  public_.Reset();
  forked_ = false;
  incarnation_++;
  ghosts_ = false;
  for (uint32_t slot = 0; slot < interests_.size(); slot++) {
    Interest& interest = interests_[slot];
    if (interest.state != Interest::State::kKernel) continue;
    if (int error = Enter(slot); error < 0) {
      // The number names one of our own new objects: what it named before is closed.
      if (error == -EINVAL) error = -EBADF;
      interest.state = Interest::State::kFailed;
      failed_.push_back({slot, error});
    }
  }
  return 0;
}

}  // namespace forkbeard
