// When a GET is a straggler that is worth a duplicate: no byte has come for longer than 95 % of the latest
// requests took to their first byte. Duplicates are at most 5 % of the requests, so that a slow server is not
// made slower.
//
// Pure: durations are arguments. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>

namespace alnair {

class HedgePolicy {
 public:
  using Duration = std::chrono::nanoseconds;

  // A first attempt was sent: earns a twentieth of a hedge.
  void sent() { credit_ = std::min(kMaxCredit, credit_ + 0.05); }

  // The time to the first byte of an answer.
  void first_byte(Duration duration) {
    samples_[count_++ % samples_.size()] = duration;
    if (count_ % kRefresh == 0) refresh();
  }

  // Silence for longer makes a straggler.
  Duration threshold() const { return threshold_; }

  // Takes the price of a hedge if the budget has it.
  bool take() {
    if (credit_ < 1) return false;
    credit_ -= 1;
    return true;
  }

 private:
  static constexpr Duration kFloor = std::chrono::milliseconds(200);
  static constexpr Duration kUnknown = std::chrono::seconds(2);  // until there are samples
  static constexpr std::size_t kRefresh = 32;
  static constexpr double kMaxCredit = 10;  // hedges saved up at most

  void refresh() {
    const std::size_t known = std::min(count_, samples_.size());
    std::array<Duration, 256> sorted = samples_;
    const auto rank = static_cast<std::ptrdiff_t>(known * 95 / 100);
    std::nth_element(sorted.begin(), sorted.begin() + rank,
                     sorted.begin() + static_cast<std::ptrdiff_t>(known));
    threshold_ = std::max(kFloor, sorted[static_cast<std::size_t>(rank)]);
  }

  std::array<Duration, 256> samples_{};
  std::size_t count_ = 0;
  Duration threshold_ = kUnknown;
  double credit_ = 1;  // the first straggler may be hedged at once
};

}  // namespace alnair
