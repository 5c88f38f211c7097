// What live jobs tell of how they use the cache, in the "report" of their heartbeats: counters of the library
// (docs/configuration.md) in "counters", which are summed, and how full their nodes' own tiers are in "tiers". Kept in
// memory, for the dashboard and for metrics; it begins with the manager.
//
// Bounded, whatever is reported: one record a live job, an hour of samples. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/dataset/job_client.h"
#include "manager/records/chunk_use.h"
#include "manager/service/jobs.h"

namespace alnair::manager {

// A node's own tiers; nullopt: it has told nothing of it, or has none.
struct NodeTiers {
  std::optional<TierUsage> memory, disk;

  NodeTiers& operator+=(const NodeTiers& more);
};

NodeTiers sum_of(const std::map<std::string, NodeTiers>& nodes);

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
  // By node, of each place what was told last. Where jobs share one it counts once; a node without a word is absent.
  std::map<std::string, NodeTiers> nodes(const std::vector<JobBrief>& jobs) const;

  // To be called every second or so. Forgets jobs that have told nothing for a while; their part of the total stays.
  void sample(Time now, std::int64_t time_ms);

 private:
  struct Job {
    ChunkUse last;
    std::vector<NodeTier> tiers;
    Time told;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Job> jobs_;
  ChunkUse total_;
  std::deque<Sample> samples_;
  Time sampled_{};
};

}  // namespace alnair::manager
