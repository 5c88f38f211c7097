// When and how often a failed request is sent again. Pure: the clock and the random numbers are arguments.
//
// The budget is a token bucket, as in the standard mode of AWS's SDKs: when a server is in trouble, retries
// must not multiply its load. A spent budget delays retries; it does not fail them.
#pragma once

#include <algorithm>
#include <chrono>

namespace alnair {

enum class RetryReason {
  kTransient,  // a broken connection, a 5xx answer, damaged bytes
  kTimeout,    // no answer, or a stall
  kThrottled,  // 503 SlowDown, 429
};

// The upper bound of the wait before retry number `retry` (1, 2...). The actual wait is drawn uniformly
// below it ("full jitter"), so that clients that failed together do not come back together.
inline std::chrono::milliseconds max_backoff(RetryReason reason, int retry) {
  const std::chrono::milliseconds base(reason == RetryReason::kThrottled ? 500 : 100);
  return std::min(base * (1 << std::min(retry - 1, 10)), std::chrono::milliseconds(20'000));
}

// `random` is uniform in [0, 1).
inline std::chrono::milliseconds backoff(RetryReason reason, int retry, double random) {
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(random * static_cast<double>(max_backoff(reason, retry).count())));
}

// Not thread-safe.
class RetryBudget {
 public:
  using Clock = std::chrono::steady_clock;

  // Takes a retry's price. Zero: go ahead. Otherwise nothing was taken: try again after that time.
  std::chrono::milliseconds take(RetryReason reason, Clock::time_point now) {
    refill(now);
    const double price = reason == RetryReason::kTimeout ? kTimeoutPrice : kRetryPrice;
    if (tokens_ >= price) {
      tokens_ -= price;
      return std::chrono::milliseconds(0);
    }
    return std::chrono::milliseconds(1 +
                                     static_cast<std::int64_t>((price - tokens_) / kTokensPerSecond * 1000));
  }

  // Successes fill the bucket.
  void succeeded(bool after_retry) {
    tokens_ = std::min(kCapacity, tokens_ + (after_retry ? kRetryPrice : 1.0));
  }

  double tokens() const { return tokens_; }

 private:
  static constexpr double kCapacity = 500;
  static constexpr double kRetryPrice = 5;
  static constexpr double kTimeoutPrice = 10;
  static constexpr double kTokensPerSecond = 25;  // so that a spent budget is no deadlock

  void refill(Clock::time_point now) {
    if (last_refill_ != Clock::time_point{} && now > last_refill_)
      tokens_ = std::min(
          kCapacity, tokens_ + std::chrono::duration<double>(now - last_refill_).count() * kTokensPerSecond);
    last_refill_ = std::max(now, last_refill_);
  }

  double tokens_ = kCapacity;
  Clock::time_point last_refill_{};
};

}  // namespace alnair
