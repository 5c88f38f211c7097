#include "cache/policy.h"

#include <algorithm>
#include <map>

namespace alnair {
namespace {

class NonePolicy : public Policy {
 public:
  std::optional<Eviction> choose(std::span<const SegmentInfo> segments, DatasetTag requester) const override {
    std::map<DatasetTag, std::uint64_t> last_use;  // by dataset
    for (const SegmentInfo& segment : segments) {
      std::uint64_t& newest = last_use[segment.dataset];
      newest = std::max(newest, segment.last_use);
    }
    const auto may_go = [&](const SegmentInfo& segment) {
      return !segment.held && (segment.dataset != requester || requester == 0);
    };
    const auto goes_before = [&](const SegmentInfo& a, const SegmentInfo& b) {
      const std::uint64_t use_a = last_use[a.dataset], use_b = last_use[b.dataset];
      if (use_a != use_b) return use_a < use_b;
      return a.dataset != b.dataset ? a.dataset < b.dataset : a.sequence < b.sequence;
    };
    std::optional<Eviction> eviction;
    for (std::size_t i = 0; i < segments.size(); ++i)
      if (may_go(segments[i]) && (!eviction || goes_before(segments[i], segments[eviction->victim])))
        eviction = Eviction{i, false};
    return eviction;
  }
};

class LruPolicy : public Policy {
 public:
  std::optional<Eviction> choose(std::span<const SegmentInfo> segments, DatasetTag) const override {
    const auto oldest = std::min_element(segments.begin(), segments.end(), [](const auto& a, const auto& b) {
      return a.last_use != b.last_use ? a.last_use < b.last_use : a.sequence < b.sequence;
    });
    if (oldest == segments.end()) return std::nullopt;
    return Eviction{static_cast<std::size_t>(oldest - segments.begin()), false};
  }
};

class S3FifoPolicy : public Policy {
 public:
  std::optional<Eviction> choose(std::span<const SegmentInfo> segments, DatasetTag) const override {
    std::uint64_t small_bytes = 0, bytes = 0;
    std::optional<std::size_t> oldest_small, oldest_main;
    for (std::size_t i = 0; i < segments.size(); ++i) {
      std::optional<std::size_t>& oldest = segments[i].main ? oldest_main : oldest_small;
      if (!oldest || segments[i].sequence < segments[*oldest].sequence) oldest = i;
      bytes += segments[i].bytes;
      if (!segments[i].main) small_bytes += segments[i].bytes;
    }
    const bool small_is_large = small_bytes * 10 > bytes;
    if (oldest_small && (small_is_large || !oldest_main)) return Eviction{*oldest_small, true};
    if (oldest_main) return Eviction{*oldest_main, true};
    return std::nullopt;
  }
  bool notes_reads() const override { return true; }
};

}  // namespace

const Policy& policy_for(EvictionPolicy policy) {
  static const NonePolicy none;
  static const LruPolicy lru;
  static const S3FifoPolicy s3fifo;
  switch (policy) {
    case EvictionPolicy::kLru:
      return lru;
    case EvictionPolicy::kS3Fifo:
      return s3fifo;
    case EvictionPolicy::kNone:
      break;
  }
  return none;
}

}  // namespace alnair
