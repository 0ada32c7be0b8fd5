// What a signal handler notes: single deliveries with their values (real-time signals queue), or how many came and who
// sent the last one (standard signals coalesce). Written by handlers on any thread, read by one loop; nobody waits for
// anybody, so a handler may interrupt the reader. Nothing here allocates or calls the kernel once it is made.
#pragma once

#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace forkbeard {

// Bit (number - 1) of a 64-bit word stands for a signal. No kernel has more.
constexpr int kMaxSignal = 64;
inline uint64_t SignalBit(int number) { return uint64_t{1} << (number - 1); }

inline bool IsRealTime([[maybe_unused]] int number) {
#if defined(SIGRTMIN)
  return number >= SIGRTMIN && number <= SIGRTMAX;
#else
  return false;
#endif
}

struct Delivery {
  enum Known : int32_t { kNothing = 0, kSender = 1, kValue = 2 };

  Delivery() = default;
  Delivery(int signal_number, const siginfo_t& info) : number(signal_number), code(info.si_code) {
    bool sender = code == SI_USER || code == SI_QUEUE || code == SI_MESGQ;
#if defined(SI_TKILL)
    sender = sender || code == SI_TKILL;
#elif defined(SI_LWP)
    sender = sender || code == SI_LWP;
#endif
#if defined(__APPLE__)
    sender = sender || code == 0;  // what kill(2) gives there
#endif
    if (sender || number == SIGCHLD) {
      known |= kSender;
      pid = info.si_pid;
      uid = static_cast<int32_t>(info.si_uid);
    }
    if (code == SI_QUEUE || code == SI_MESGQ || code == SI_TIMER) {
      known |= kValue;
      value = info.si_value.sival_int;
    }
  }

  int32_t number = 0;
  int32_t code = 0;
  int32_t known = kNothing;
  int32_t pid = 0;
  int32_t uid = 0;
  int32_t value = 0;
};

class DeliveryQueue {
 public:
  // As many as a JavaScript thread that is busy for a second can well miss. Memory that is not used is not touched.
  static constexpr uint64_t kCapacity = 32768;

  static DeliveryQueue* Create() {
    void* memory = calloc(1, sizeof(DeliveryQueue));
    return memory == nullptr ? nullptr : new (memory) DeliveryQueue;
  }
  static void Destroy(DeliveryQueue* queue) { free(queue); }

  bool Push(const Delivery& delivery) {
    uint64_t head = head_.load();
    do {
      if (head - tail_.load() >= kCapacity) return false;
    } while (!head_.compare_exchange_weak(head, head + 1));
    Slot& slot = slots_[head % kCapacity];
    slot.delivery = delivery;
    slot.turn.store(head + 1, std::memory_order_release);
    return true;
  }
  bool Pop(Delivery* out) {
    uint64_t tail = tail_.load(std::memory_order_relaxed);
    Slot& slot = slots_[tail % kCapacity];
    if (slot.turn.load(std::memory_order_acquire) != tail + 1) return false;
    *out = slot.delivery;
    tail_.store(tail + 1);
    return true;
  }

 private:
  DeliveryQueue() {}  // leaves calloc's zeroes as they are

  struct Slot {
    Slot() {}
    std::atomic<uint64_t> turn;  // position + 1 of what is in it
    Delivery delivery;
  };
  std::atomic<uint64_t> head_;
  std::atomic<uint64_t> tail_;
  std::array<Slot, kCapacity> slots_;
};

// The deliveries of one signal since the loop last asked: how many, and who sent the last one.
class Tally {
 public:
  void Add(const Delivery& delivery) {
    // Odd while somebody writes. Whoever comes meanwhile, on another thread, is as much the last one as he is.
    uint32_t version = version_.load();
    if (version % 2 == 0 && version_.compare_exchange_strong(version, version + 1)) {
      code_.store(delivery.code);
      known_.store(delivery.known);
      pid_.store(delivery.pid);
      uid_.store(delivery.uid);
      value_.store(delivery.value);
      version_.store(version + 2);
    }
    count_.fetch_add(1);
  }
  // How many; 0 when nothing came.
  uint32_t Take(Delivery* last) {
    uint32_t count = count_.exchange(0);
    if (count == 0) return 0;
    uint32_t version;
    do {
      version = version_.load();
      last->code = code_.load();
      last->known = known_.load();
      last->pid = pid_.load();
      last->uid = uid_.load();
      last->value = value_.load();
    } while (version % 2 != 0 || version_.load() != version);
    return count;
  }
  // In a forked child, where a writer may have been lost half-way, too.
  void Reset() {
    count_.store(0);
    version_.store(0);
  }

 private:
  std::atomic<uint32_t> count_{0};
  std::atomic<uint32_t> version_{0};
  std::atomic<int32_t> code_{0};
  std::atomic<int32_t> known_{0};
  std::atomic<int32_t> pid_{0};
  std::atomic<int32_t> uid_{0};
  std::atomic<int32_t> value_{0};
};

}  // namespace forkbeard
