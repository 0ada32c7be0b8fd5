#include "shim/allowance.h"

#include <algorithm>

namespace forkbeard::shim {
namespace {

constexpr int64_t kSecond = 1000;
// Whoever has spent all of it gets a tenth of a second's worth at a time: we are not to wake for each line.
constexpr int64_t kPortion = 100;

}  // namespace

void Allowance::Set(int64_t bytes, int64_t lines, int64_t now) {
  bytes_ = {bytes, bytes * kSecond};
  lines_ = {lines, lines * kSecond};
  at_ = now;
}

int64_t Allowance::Take(const char* said, size_t size, int64_t now) {
  const int64_t elapsed = std::clamp<int64_t>(now - at_, 0, kSecond);
  at_ = now;
  bytes_.Refill(elapsed);
  lines_.Refill(elapsed);
  const int64_t lines = lines_.rate == 0 ? 0 : std::count(said, said + size, '\n');
  return std::max(bytes_.Spend(static_cast<int64_t>(size)), lines_.Spend(lines));
}

void Allowance::Budget::Refill(int64_t elapsed) { left = std::min(left + elapsed * rate, rate * kSecond); }

int64_t Allowance::Budget::Spend(int64_t count) {
  if (rate == 0) return 0;
  left -= count * kSecond;
  if (left > 0) return 0;
  return -left / rate + kPortion;
}

}  // namespace forkbeard::shim
