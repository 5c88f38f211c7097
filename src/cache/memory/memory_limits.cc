#include "cache/memory/memory_limits.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>

#include "cache/record.h"

namespace alnair {
namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// "max" (version 2), an absurdly large number (version 1) or an unreadable file: no limit.
std::optional<std::uint64_t> read_number(const std::string& path) {
  std::istringstream text(read_text(path));
  std::uint64_t number = 0;
  if (!(text >> number) || number >= std::uint64_t{1} << 60) return std::nullopt;
  return number;
}

std::uint64_t read_statistic(const std::string& path, const std::string& wanted) {
  std::istringstream text(read_text(path));
  std::string name;
  for (std::uint64_t value = 0; text >> name >> value;)
    if (name == wanted) return value;
  return 0;
}

std::optional<std::uint64_t> remaining_of(const std::string& group, bool version_2) {
  const auto limit = read_number(group + (version_2 ? "/memory.max" : "/memory.limit_in_bytes"));
  const auto usage = read_number(group + (version_2 ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !usage) return std::nullopt;
  const std::uint64_t reclaimable =
      read_statistic(group + "/memory.stat", version_2 ? "inactive_file" : "total_inactive_file");
  const std::uint64_t taken = *usage - std::min(*usage, reclaimable);
  return *limit - std::min(*limit, taken);
}

}  // namespace

std::optional<std::uint64_t> control_group_remaining(const std::string& membership, const std::string& root) {
  std::optional<std::uint64_t> least;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // "4:memory:/path" or "0::/path"
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const bool version_2 = controllers == ",,";
    if (!version_2 && controllers.find(",memory,") == std::string::npos) continue;
    const std::string top = version_2 ? root : root + "/memory";
    // In a container the path may name a group that is not visible from inside; the root is then the
    // container's.
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      if (const auto remaining = remaining_of(top + path, version_2))
        least = std::min(least.value_or(*remaining), *remaining);
      if (path.rfind('/') == std::string::npos) break;
    }
  }
  return least;
}

std::uint64_t default_memory_limit(const std::string& directory) {
  struct statvfs status {};
  if (statvfs(directory.c_str(), &status) != 0) return 0;
  std::uint64_t limit = static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize / 2;
  if (const auto remaining = control_group_remaining(read_text("/proc/self/cgroup"), "/sys/fs/cgroup"))
    limit = std::min(limit, *remaining / 4);
  return limit;
}

MemoryLimits complete_limits(MemoryLimits limits) {
  if (limits.segment == 0) {
    const std::uint64_t sixteenth = std::bit_floor(std::max<std::uint64_t>(limits.limit / 16, 1));
    const std::uint64_t eighth = std::bit_floor(std::max<std::uint64_t>(limits.limit / 8, 1));
    constexpr std::uint64_t kSmall = 4 << 20;
    limits.segment = std::clamp<std::uint64_t>(sixteenth >= kSmall ? sixteenth : std::min(kSmall, eighth),
                                               64 << 10, kMaxSegmentBytes);
  }
  if (limits.transit == 0) limits.transit = std::max(limits.limit / 4, 2 * limits.segment);
  limits.transit = std::min(limits.transit, limits.limit);
  return limits;
}

}  // namespace alnair
