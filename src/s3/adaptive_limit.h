// How many requests may be in flight: additive increase, multiplicative decrease (as TCP does). A server that
// answers SlowDown gets half as many; each window of successes adds one, up to the maximum.
//
// Pure: the clock is an argument. Not thread-safe.
#pragma once

#include <algorithm>
#include <chrono>

namespace alnair {

class AdaptiveLimit {
 public:
  using Clock = std::chrono::steady_clock;

  explicit AdaptiveLimit(int maximum) : maximum_(maximum), limit_(maximum) {}

  int limit() const { return static_cast<int>(limit_); }

  // Both return whether limit() changed.
  bool succeeded() {
    if (limit_ >= maximum_) return false;
    const int before = limit();
    limit_ = std::min<double>(maximum_, limit_ + 1 / limit_);
    return limit() != before;
  }

  // The answers to what was in flight at the first refusal tell nothing new: they count once.
  bool throttled(Clock::time_point now) {
    if (now < deaf_until_) return false;
    deaf_until_ = now + kWindow;
    const int before = limit();
    limit_ = std::max(1.0, limit_ / 2);
    return limit() != before;
  }

 private:
  static constexpr auto kWindow = std::chrono::milliseconds(250);

  const int maximum_;
  double limit_;
  Clock::time_point deaf_until_{};
};

}  // namespace alnair
