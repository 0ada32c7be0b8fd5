// SignalSubscription: what one loop watches, and what came for it. Handlers write to it from any thread, through Note
// alone; the rest is the loop's thread's. What JavaScript shall see is put into its mailbox before it is called, so that
// a signal costs no call of its own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <span>

#include "poller/poller.h"
#include "signals/delivery.h"

namespace forkbeard {

class SignalEnvironment;

class SignalSubscription final : public Attention {
 public:
  // A row of the mailbox: number, count, code, what is known, pid, uid, value.
  static constexpr size_t kRow = 7;
  // Before the rows: 1 while there is something to fetch; how many rows JavaScript has not taken yet.
  static constexpr size_t kFirstRow = 2;

  // `mailbox`, which JavaScript has as well, holds one row at least.
  SignalSubscription(SignalEnvironment* environment, Poller* poller, std::span<int32_t> mailbox)
      : environment(environment),
        poller(poller),
        flag_(&mailbox[0]),
        fetched_(&mailbox[1]),
        rows_(mailbox.subspan(kFirstRow)) {}
  ~SignalSubscription() { DeliveryQueue::Destroy(queue_.load()); }

  // 0 or -ENOMEM: what a handler needs of memory for this signal.
  int PrepareFor(int number);
  // From a handler.
  void Note(const Delivery& delivery);

  bool IsWanted() const override { return __atomic_load_n(flag_, __ATOMIC_SEQ_CST) != 0; }
  // Fills the mailbox, unless JavaScript has not taken yet what is in it.
  void Fetch() override;

  // What came for a signal that is not watched any more must not reach its next watcher.
  void Forget(int number);
  // In a forked child. A handler on another thread of the parent may have been anywhere in the queue.
  void ForgetAll();

  bool Watches(int number) const { return (watched.load() & SignalBit(number)) != 0; }

  SignalEnvironment* const environment;
  Poller* poller;  // null when the loop is closed
  std::atomic<uint64_t> watched{0};
  std::atomic<SignalSubscription*> next{nullptr};
  bool linked = false;

 private:
  size_t Take();

  std::atomic<uint64_t> pending_{0};
  std::array<Tally, kMaxSignal> tallies_;
  std::atomic<DeliveryQueue*> queue_{nullptr};
  std::deque<Delivery> kept_;  // out of the queue, for signals that are still watched
  int32_t* const flag_;
  int32_t* const fetched_;
  const std::span<int32_t> rows_;
};

}  // namespace forkbeard
