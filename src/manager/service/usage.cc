#include "manager/service/usage.h"

#include <nlohmann/json.hpp>
#include <tuple>

#include "dataset/job/use_reporter.h"

namespace alnair::manager {
namespace {

constexpr std::chrono::seconds kEvery{10};
constexpr std::size_t kSamples = 360;
constexpr std::chrono::hours kForget{1};
constexpr std::size_t kPlaces = 8;  // of tiers, that a job may tell of
constexpr double kMost = 1e15;  // what no honest counter reaches

double counter(const nlohmann::json& counters, const std::string& name) {
  const auto found = counters.find(name);
  if (found == counters.end() || !found->is_number()) return 0;
  const double value = found->get<double>();
  return value >= 0 && value <= kMost ? value : 0;
}

ChunkUse use_of(const nlohmann::json& counters) {
  ChunkUse usage;
  usage.reads = counter(counters, "reads");
  usage.stalled_s = counter(counters, "wait_us") / 1e6;
  usage.s3_requests = counter(counters, "s3_get_object");
  for (std::size_t i = 0; i < kUsageTiers.size(); ++i) {
    usage.hits[i] = counter(counters, std::string(kUsageTiers[i]) + "_hits");
    usage.misses[i] = counter(counters, std::string(kUsageTiers[i]) + "_misses");
  }
  return usage;
}

}  // namespace

NodeTiers& NodeTiers::operator+=(const NodeTiers& more) {
  for (const auto tier : {&NodeTiers::memory, &NodeTiers::disk}) {
    if (!(more.*tier)) continue;
    TierUsage& sum = (this->*tier) ? *(this->*tier) : (this->*tier).emplace();
    sum.used_bytes += (more.*tier)->used_bytes;
    sum.limit_bytes += (more.*tier)->limit_bytes;
  }
  return *this;
}

NodeTiers sum_of(const std::map<std::string, NodeTiers>& nodes) {
  NodeTiers sum;
  for (const auto& [name, tiers] : nodes) sum += tiers;
  return sum;
}

ChunkUse UsageTotals::reported(const std::string& job, const nlohmann::json& report, Time now) {
  std::vector<NodeTier> tiers = node_tiers(report, kPlaces);
  const auto counters = report.find("counters");
  const bool counted = counters != report.end() && counters->is_object();
  if (!counted && tiers.empty()) return {};
  const std::lock_guard lock(mutex_);
  Job& known = jobs_[job];
  known.told = now;
  if (!tiers.empty()) known.tiers = std::move(tiers);
  if (!counted) return {};
  const ChunkUse told = use_of(*counters);
  // Counters grow; one that is smaller than before began again, in another process.
  ChunkUse fresh = told;
  ChunkUse::each(fresh, [](double& count, double before) { count -= count >= before ? before : 0; }, known.last);
  total_ += fresh;
  known.last = told;
  return fresh;
}

ChunkUse UsageTotals::of(const std::string& job) const {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? ChunkUse() : found->second.last;
}

ChunkUse UsageTotals::total() const {
  const std::lock_guard lock(mutex_);
  return total_;
}

std::deque<UsageTotals::Sample> UsageTotals::history() const {
  const std::lock_guard lock(mutex_);
  return samples_;
}

std::map<std::string, NodeTiers> UsageTotals::nodes(const std::vector<JobBrief>& jobs) const {
  using PlaceOfTier = std::tuple<std::string, std::string, std::string>;  // node, tier, which one
  std::map<PlaceOfTier, std::pair<Time, TierUsage>> places;
  {
    const std::lock_guard lock(mutex_);
    for (const JobBrief& each : jobs) {
      const auto job = jobs_.find(each.id);
      if (job == jobs_.end()) continue;
      for (const NodeTier& tier : job->second.tiers) {
        auto& [told, usage] = places[{each.node, tier.tier, tier.place}];
        if (told > job->second.told) continue;
        told = job->second.told;
        usage = {.used_bytes = tier.used_bytes, .limit_bytes = tier.limit_bytes};
      }
    }
  }
  std::map<std::string, NodeTiers> nodes;
  for (const auto& [place, told] : places) {
    NodeTiers tiers;
    (std::get<1>(place) == "memory" ? tiers.memory : tiers.disk) = told.second;
    nodes[std::get<0>(place)] += tiers;
  }
  return nodes;
}

void UsageTotals::sample(Time now, std::int64_t time_ms) {
  const std::lock_guard lock(mutex_);
  if (!samples_.empty() && now - sampled_ < kEvery) return;
  sampled_ = now;
  samples_.push_back({time_ms, total_});
  if (samples_.size() > kSamples) samples_.pop_front();
  std::erase_if(jobs_, [&](const auto& job) { return now - job.second.told > kForget; });
}

}  // namespace alnair::manager
