// The kernels' names of our mask, for the backends whose calls take and give bits: epoll(7) and poll(2).
#pragma once

#include <cstdint>

#include "poller/poller.h"

namespace forkbeard {

// Zero: this kernel lacks it.
struct KernelBits {
  uint32_t in, out, hangup, peer_closed, error;
};

constexpr uint32_t Asked(const KernelBits& bits, uint32_t mask) {
  uint32_t events = 0;
  if (mask & kRead) events |= bits.in;
  if (mask & kWrite) events |= bits.out;
  if (mask & kHangup) events |= bits.peer_closed;
  return events;
}

constexpr uint32_t Reported(const KernelBits& bits, uint32_t events) {
  uint32_t mask = 0;
  if (events & bits.in) mask |= kRead;
  if (events & bits.out) mask |= kWrite;
  if (events & bits.hangup) mask |= kHangup;
  if (events & bits.peer_closed) mask |= kHalfClosed;
  if (events & bits.error) mask |= kError;
  return mask;
}

}  // namespace forkbeard
