#include "manager/service/usage.h"

#include <nlohmann/json.hpp>

namespace alnair::manager {
namespace {

constexpr std::chrono::seconds kEvery{10};
constexpr std::size_t kSamples = 360;
constexpr std::chrono::hours kForget{1};
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

ChunkUse UsageTotals::reported(const std::string& job, const nlohmann::json& report, Time now) {
  const auto counters = report.find("counters");
  if (counters == report.end() || !counters->is_object()) return {};
  const ChunkUse told = use_of(*counters);
  const std::lock_guard lock(mutex_);
  Job& known = jobs_[job];
  // Counters grow; one that is smaller than before began again, in another process.
  ChunkUse fresh = told;
  ChunkUse::each(fresh, [](double& count, double before) { count -= count >= before ? before : 0; }, known.last);
  total_ += fresh;
  known = {told, now};
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

void UsageTotals::sample(Time now, std::int64_t time_ms) {
  const std::lock_guard lock(mutex_);
  if (!samples_.empty() && now - sampled_ < kEvery) return;
  sampled_ = now;
  samples_.push_back({time_ms, total_});
  if (samples_.size() > kSamples) samples_.pop_front();
  std::erase_if(jobs_, [&](const auto& job) { return now - job.second.told > kForget; });
}

}  // namespace alnair::manager
