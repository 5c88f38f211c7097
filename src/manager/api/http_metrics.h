// Counts requests by route and class of status, and their times, in Prometheus's text format. Labels are the API's own
// routes: a client cannot make new ones. Thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace alnair::manager {

class HttpMetrics {
 public:
  // The route is shown from now on, also while nobody asks for it.
  void add_route(const std::string& route);
  void count(const std::string& route, int status, std::chrono::nanoseconds time);
  std::string text() const;

 private:
  static constexpr std::array<double, 10> kBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.5};
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;  // by route and hundreds of the status
  std::array<std::uint64_t, kBounds.size() + 1> buckets_{};
  double seconds_ = 0;
};

}  // namespace alnair::manager
