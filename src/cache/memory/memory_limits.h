// How much node memory may take when the user does not say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cache/memory/control.h"

namespace alnair {

// Bytes that the process's control group may still take: the least over the group and those above it,
// counting page cache that can be dropped as free. nullopt: no limit is set, or none is visible. Knows
// versions 1 and 2.
//   membership: the text of /proc/self/cgroup; root: where the hierarchies are mounted (/sys/fs/cgroup).
std::optional<std::uint64_t> control_group_remaining(const std::string& membership, const std::string& root);

// Half of what is free on the directory's file system and at most a quarter of what the control group has
// left. 0 if the directory cannot be examined.
std::uint64_t default_memory_limit(const std::string& directory);

// Fills in what is 0: a quarter of the limit (and at least two segments) for transit, and segments of a
// sixteenth of the limit, between 4 and 64 MiB; smaller ones under 32 MiB, so that there are always several.
MemoryLimits complete_limits(MemoryLimits limits);

}  // namespace alnair
