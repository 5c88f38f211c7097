// Appends chunks to open segments, for the duration of one put.
//
// Not thread-safe: each put makes its own. What it owns is released when it is destroyed.
#pragma once

#include <optional>
#include <vector>

#include "cache/memory/arena.h"

namespace alnair {

class SegmentWriter {
 public:
  explicit SegmentWriter(Arena& arena) : arena_(arena) {}

  // Readable by all processes when this returns true. false: refused.
  bool append(const SegmentKind& kind, const ContentHash& hash, std::span<const std::byte> bytes);

  // Writes what evictions on the way have spared, where there is room. Call it last.
  void write_survivors();

 private:
  bool obtain(const SegmentKind& kind, std::uint64_t size);
  bool write(const ContentHash& hash, std::span<const std::byte> bytes);

  Arena& arena_;
  SegmentKind kind_;
  std::optional<OwnedSegment> segment_;
  std::vector<Survivor> survivors_;
  bool rescuing_ = true;
};

}  // namespace alnair
