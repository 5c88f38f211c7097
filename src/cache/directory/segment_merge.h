// Which small segments should become one: frequent flushes leave many, and each costs a file and a
// descriptor. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cache/directory/segment_table.h"

namespace alnair {

// The slots to merge; empty: nothing is worth it. They are of one dataset and of about one size (within a
// factor of eight), at least eight of them, and together no larger than `segment_bytes`. So a chunk is copied
// once for each factor of eight that its segment grows by, and never once that has a quarter of the full
// size.
std::vector<std::pair<std::uint32_t, KnownSegment>> segments_to_merge(
    std::span<const std::pair<std::uint32_t, KnownSegment>> segments, std::uint64_t segment_bytes);

}  // namespace alnair
