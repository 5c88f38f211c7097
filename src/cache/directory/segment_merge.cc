#include "cache/directory/segment_merge.h"

#include <algorithm>
#include <bit>
#include <map>

namespace alnair {
namespace {

constexpr std::size_t kLeast = 8;

}  // namespace

std::vector<std::pair<std::uint32_t, KnownSegment>> segments_to_merge(
    std::span<const std::pair<std::uint32_t, KnownSegment>> segments, std::uint64_t segment_bytes) {
  using Group = std::vector<std::pair<std::uint32_t, KnownSegment>>;
  std::map<std::pair<DatasetTag, int>, Group> groups;
  for (const auto& entry : segments) {
    const KnownSegment& segment = entry.second;
    if (segment.bytes >= segment_bytes / 4) continue;
    groups[{segment.dataset, std::bit_width(segment.bytes) / 3}].push_back(entry);
  }
  for (auto& [key, group] : groups) {
    std::sort(group.begin(), group.end(),
              [](const auto& a, const auto& b) { return a.second.created_ns < b.second.created_ns; });
    std::uint64_t bytes = 0;
    std::size_t count = 0;
    while (count < group.size() && bytes + group[count].second.bytes <= segment_bytes) {
      bytes += group[count++].second.bytes;
    }
    group.resize(count);
    if (count >= kLeast) return group;
  }
  return {};
}

}  // namespace alnair
