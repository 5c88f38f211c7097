// When to leave a node alone that does not work, and when to look again: a circuit breaker. Pure: the clock is an
// argument.
//
// Closed, everything passes. A failure opens it: nothing passes for a while that doubles with every failure. Then it is
// half open: one probe passes, whose success closes it.
//
// Thread safety: none.
#pragma once

#include <algorithm>
#include <chrono>

namespace alnair::redis {

class Breaker {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration kFirstPause = std::chrono::milliseconds(250);
  static constexpr Clock::duration kLongestPause = std::chrono::seconds(8);

  bool closed() const { return failures_ == 0; }
  // Whether to probe now. True once; then success() or failure() must follow.
  bool take_probe(Clock::time_point now) {
    if (closed() || probing_ || now < retry_at_) return false;
    return probing_ = true;
  }
  void success() {
    failures_ = 0;
    probing_ = false;
  }
  void failure(Clock::time_point now) {
    if (!closed() && !probing_) return;  // what was under way when it opened fails, too: that says nothing new
    probing_ = false;
    retry_at_ = now + std::min<Clock::duration>(kFirstPause * (1 << std::min(failures_, 10)), kLongestPause);
    ++failures_;
  }
  Clock::time_point retry_at() const { return retry_at_; }

 private:
  int failures_ = 0;
  bool probing_ = false;
  Clock::time_point retry_at_{};
};

}  // namespace alnair::redis
