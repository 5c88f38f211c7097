// What live jobs tell of how they use the cache, summed: counters of the library (docs/configuration.md) that a heartbeat
// carries in "report": {"counters": {...}}. Kept in memory, for the dashboard and for metrics; it begins with the manager.
//
// Bounded, whatever is reported: one record a live job, an hour of samples. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "manager/records/chunk_use.h"

namespace alnair::manager {

class UsageTotals {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Sample {
    std::int64_t time_ms;  // since the Unix epoch
    ChunkUse total;
  };

  // `report` is whatever a client sent: what is no counter is ignored. Returns what is new in it.
  ChunkUse reported(const std::string& job, const nlohmann::json& report, Time now);
  ChunkUse of(const std::string& job) const;  // zeros: it has told nothing
  ChunkUse total() const;                     // of all jobs since the manager's start, also of those that have ended
  std::deque<Sample> history() const;         // one every 10 s, an hour of them

  // To be called every second or so. Forgets jobs that have told nothing for a while; their part of the total stays.
  void sample(Time now, std::int64_t time_ms);

 private:
  struct Job {
    ChunkUse last;
    Time told;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Job> jobs_;
  ChunkUse total_;
  std::deque<Sample> samples_;
  Time sampled_{};
};

}  // namespace alnair::manager
