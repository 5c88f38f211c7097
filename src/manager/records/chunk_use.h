// How chunks have been used, in sums: of a job, a dataset, or all.
#pragma once

#include <array>
#include <string_view>

namespace alnair::manager {

inline constexpr std::array<std::string_view, 5> kUsageTiers = {"memory", "disk", "redis", "spill", "source"};

struct ChunkUse {
  double reads = 0;
  double stalled_s = 0;
  double s3_requests = 0;
  std::array<double, kUsageTiers.size()> hits{}, misses{};

  double cache_hits() const { return hits[0] + hits[1] + hits[2] + hits[3]; }  // each one a request to S3 less
  double source_hits() const { return hits[4]; }

  // Calls `change` with each sum of `use` and what belongs to it in `others`.
  template <typename Use, typename Change, typename... Others>
  static void each(Use& use, const Change& change, Others&... others) {
    change(use.reads, others.reads...);
    change(use.stalled_s, others.stalled_s...);
    change(use.s3_requests, others.s3_requests...);
    for (std::size_t i = 0; i < kUsageTiers.size(); ++i) {
      change(use.hits[i], others.hits[i]...);
      change(use.misses[i], others.misses[i]...);
    }
  }
  ChunkUse& operator+=(const ChunkUse& more) {
    each(*this, [](double& sum, double number) { sum += number; }, more);
    return *this;
  }
  bool operator==(const ChunkUse&) const = default;
};

}  // namespace alnair::manager
