#include "manager/api/http_metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace alnair::manager {

void HttpMetrics::add_route(const std::string& route) {
  const std::lock_guard lock(mutex_);
  requests_[{route, 2}];
}

void HttpMetrics::count(const std::string& route, int status, std::chrono::nanoseconds time) {
  const double seconds = std::chrono::duration<double>(time).count();
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  const std::lock_guard lock(mutex_);
  ++requests_[{route, status / 100}];
  ++buckets_[static_cast<std::size_t>(bucket)];
  seconds_ += seconds;
}

std::string HttpMetrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string text =
      "# HELP alnair_manager_http_requests_total Requests answered.\n"
      "# TYPE alnair_manager_http_requests_total counter\n";
  for (const auto& [key, count] : requests_)
    text += fmt::format("alnair_manager_http_requests_total{{route=\"{}\",code=\"{}xx\"}} {}\n", key.first, key.second,
                        count);
  text +=
      "# HELP alnair_manager_http_request_seconds Time from a request's arrival to its answer.\n"
      "# TYPE alnair_manager_http_request_seconds histogram\n";
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < kBounds.size(); ++i) {
    count += buckets_[i];
    text += fmt::format("alnair_manager_http_request_seconds_bucket{{le=\"{}\"}} {}\n", kBounds[i], count);
  }
  count += buckets_.back();
  text += fmt::format(
      "alnair_manager_http_request_seconds_bucket{{le=\"+Inf\"}} {0}\n"
      "alnair_manager_http_request_seconds_sum {1}\nalnair_manager_http_request_seconds_count {0}\n",
      count, seconds_);
  return text;
}

}  // namespace alnair::manager
