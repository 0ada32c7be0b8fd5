// See subscription.h.
#include "signals/subscription.h"

#include <errno.h>

#include <bit>

namespace forkbeard {

int SignalSubscription::PrepareFor(int number) {
  if (!IsRealTime(number) || queue_.load() != nullptr) return 0;
  DeliveryQueue* queue = DeliveryQueue::Create();
  if (queue == nullptr) return -ENOMEM;
  queue_.store(queue);
  return 0;
}

void SignalSubscription::Note(const Delivery& delivery) {
  DeliveryQueue* queue = IsRealTime(delivery.number) ? queue_.load() : nullptr;
  // A full queue costs values, never deliveries.
  if (queue == nullptr || !queue->Push(delivery)) {
    tallies_[delivery.number - 1].Add(delivery);
    pending_.fetch_or(SignalBit(delivery.number));
  }
  // Whoever set it before us has woken the loop, or is about to.
  if (__atomic_exchange_n(flag_, 1, __ATOMIC_SEQ_CST) == 0) poller->Wake();
}

void SignalSubscription::Fetch() {
  if (*fetched_ == 0 && IsWanted()) *fetched_ = static_cast<int32_t>(Take());
}

// Writes what came as rows and returns how many. As many as fit: there may be more, and then the flag is set.
size_t SignalSubscription::Take() {
  __atomic_store_n(flag_, 0, __ATOMIC_SEQ_CST);
  size_t rows = 0;
  const size_t room = rows_.size() / kRow;
  auto write = [&](const Delivery& delivery, uint32_t count) {
    int32_t* row = &rows_[rows++ * kRow];
    row[0] = delivery.number;
    row[1] = static_cast<int32_t>(count);
    row[2] = delivery.code;
    row[3] = delivery.known;
    row[4] = delivery.pid;
    row[5] = delivery.uid;
    row[6] = delivery.value;
  };
  while (rows < room) {
    uint64_t pending = pending_.load();
    if (pending == 0) break;
    int number = std::countr_zero(pending) + 1;
    pending_.fetch_and(~SignalBit(number));
    Delivery last;
    last.number = number;
    if (uint32_t count = tallies_[number - 1].Take(&last)) write(last, count);
  }
  while (rows < room && !kept_.empty()) {
    write(kept_.front(), 1);
    kept_.pop_front();
  }
  Delivery delivery;
  while (rows < room && queue_.load() != nullptr && queue_.load()->Pop(&delivery)) {
    if (Watches(delivery.number)) write(delivery, 1);
  }
  if (rows == room) __atomic_store_n(flag_, 1, __ATOMIC_SEQ_CST);
  return rows;
}

void SignalSubscription::Forget(int number) {
  pending_.fetch_and(~SignalBit(number));
  tallies_[number - 1].Reset();
  for (int32_t row = 0; row < *fetched_; row++) {
    // No signal's number.
    if (rows_[row * kRow] == number) rows_[row * kRow] = 0;
  }
  if (queue_.load() == nullptr) return;
  std::erase_if(kept_, [number](const Delivery& kept) { return kept.number == number; });
  Delivery delivery;
  while (queue_.load()->Pop(&delivery)) {
    if (delivery.number != number) kept_.push_back(delivery);
  }
}

void SignalSubscription::ForgetAll() {
  watched.store(0);
  pending_.store(0);
  for (Tally& tally : tallies_) tally.Reset();
  kept_.clear();
  DeliveryQueue::Destroy(queue_.exchange(nullptr));
  *flag_ = 0;
  *fetched_ = 0;
}

}  // namespace forkbeard
