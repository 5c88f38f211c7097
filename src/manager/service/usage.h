// What live jobs tell of how they use the cache, summed: counters of the library (docs/configuration.md) that a heartbeat
// carries in "report": {"counters": {...}}. Kept in memory, for the dashboard and for metrics; it begins with the manager.
//
// Bounded, whatever is reported: one record a live job, an hour of samples. Thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace alnair::manager {

inline constexpr std::array<std::string_view, 5> kUsageTiers = {"memory", "disk", "redis", "spill", "source"};

struct Usage {
  double reads = 0;
  double stalled_s = 0;
  double s3_requests = 0;
  std::array<double, kUsageTiers.size()> hits{}, misses{};

  double cache_hits() const { return hits[0] + hits[1] + hits[2] + hits[3]; }  // each one a request to S3 less
  double source_hits() const { return hits[4]; }
};

class UsageTotals {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Sample {
    std::int64_t time_ms;  // since the Unix epoch
    Usage total;
  };

  // `report` is whatever a client sent: what is no counter is ignored.
  void reported(const std::string& job, const nlohmann::json& report, Time now);
  Usage of(const std::string& job) const;  // zeros: it has told nothing
  Usage total() const;                     // of all jobs since the manager's start, also of those that have ended
  std::deque<Sample> history() const;      // one every 10 s, an hour of them

  // To be called every second or so. Forgets jobs that have told nothing for a while; their part of the total stays.
  void sample(Time now, std::int64_t time_ms);

 private:
  struct Job {
    Usage last;
    Time told;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Job> jobs_;
  Usage total_;
  std::deque<Sample> samples_;
  Time sampled_{};
};

}  // namespace alnair::manager
