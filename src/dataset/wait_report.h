// What is said of a read that waits for long: its object, and what seems to be the cause.
//
// Thread safety: none; it belongs to the thread that waits.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace alnair {

class WaitReport {
 public:
  using Clock = std::chrono::steady_clock;

  // Counts of this job that tell why a read takes long.
  struct Signs {
    std::uint64_t throttled = 0;  // answers 503 and 429
    std::uint64_t retries = 0;    // repeated requests
    std::uint64_t faults = 0;     // errors of tiers
  };
  static Signs now_counted();

  WaitReport(Clock::time_point started, Signs at_start) : due_(started + kEvery), started_(started), at_start_(at_start) {}

  // A message each 30 seconds; `object` names one that is still waited for.
  std::optional<std::string> due(Clock::time_point now, const Signs& signs, const std::function<std::string()>& object);

 private:
  static constexpr std::chrono::seconds kEvery{30};
  Clock::time_point due_;
  const Clock::time_point started_;
  const Signs at_start_;
};

}  // namespace alnair
