#include "dataset/wait_report.h"

#include <fmt/format.h>

#include "core/metrics.h"

namespace alnair {

WaitReport::Signs WaitReport::now_counted() {
  Signs signs{metrics().value(Counter::kS3Throttled), metrics().value(Counter::kS3Retries), 0};
  for (int tier = 0; tier < static_cast<int>(TierId::kCount); ++tier)
    signs.faults += metrics().value(static_cast<TierId>(tier), TierCounter::kFaults);
  return signs;
}

std::optional<std::string> WaitReport::due(Clock::time_point now, const Signs& signs,
                                           const std::function<std::string()>& object) {
  if (now < due_) return std::nullopt;
  due_ = now + kEvery;
  std::string cause = "no answer yet, neither from the source nor from another process that is fetching it";
  if (const auto throttled = signs.throttled - at_start_.throttled; throttled > 0)
    cause = fmt::format("the source asks for fewer requests ({} answers 503 or 429 meanwhile)", throttled);
  else if (const auto retries = signs.retries - at_start_.retries; retries > 0)
    cause = fmt::format("requests fail and are repeated ({} times meanwhile)", retries);
  else if (const auto faults = signs.faults - at_start_.faults; faults > 0)
    cause = fmt::format("a tier fails ({} errors meanwhile)", faults);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - started_).count();
  return fmt::format("waiting for {} since {} s: {}", object(), seconds, cause);
}

}  // namespace alnair
