// One node memory directory as this process has it open: control file, index, mapped segments, allocator.
//
// Files in <directory>/v1: locks, control, index-<n>, segment-<sequence>, dead-<sequence>; docs/formats.md
// has their layout.
//
// Thread safety: all methods may be called from any thread at once. Not for use in forked children.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "alnair/core/bytes.h"
#include "cache/lock_file.h"
#include "cache/memory/allocator.h"
#include "cache/memory/control.h"
#include "cache/memory/segment_map.h"
#include "cache/shared_index.h"

namespace alnair {

class Arena {
 public:
  // Opens or makes the directory. What is damaged is made anew, empty. `wanted` counts only for who makes it
  // (0: defaults). Throws CacheError: not ours, a symbolic link, cannot be made, no room.
  static std::unique_ptr<Arena> open(const std::string& directory, const MemoryLimits& wanted,
                                     SegmentAllocator::Clock clock);

  enum class ReadFault { kNone, kDamaged };
  // The chunk at a place, checked. A record that is damaged in this process's mapping is read again from the
  // file. nullopt: another chunk's entry, a stale one, or damaged beyond that; then the entry is erased and
  // `fault` is set.
  std::optional<View> read(const ContentHash& hash, Location place, ReadFault& fault);

  // Whether a record of that hash is at the place (the payload is not looked at).
  bool holds(const ContentHash& hash, Location place);
  bool holds(const ContentHash& hash) {
    return index().find(hash, [&](Location place) { return holds(hash, place); });
  }

  // The live segment that an index entry names; null if the entry is stale.
  SegmentSlot* live_slot(std::uint32_t segment) {
    SegmentSlot& slot = control_->slot(segment);
    const std::uint64_t identity = slot.identity.load(std::memory_order_acquire);
    const bool same = (identity >> 8) % SharedIndex::kSegmentIds == segment;
    return same && segments_.is_live(identity) ? &slot : nullptr;
  }

  void touch(SegmentSlot& slot) {
    const std::uint64_t now = clock_(), last = slot.last_use.load(std::memory_order_relaxed);
    if (now - last >= 16) slot.last_use.store(now, std::memory_order_relaxed);  // spares the cache line
  }

  const std::string& directory() const { return directory_; }
  LockFile& locks() { return locks_; }
  MemoryControl& control() { return *control_; }
  SharedIndex& index() { return index_; }
  SegmentMap& segments() { return segments_; }
  SegmentAllocator& allocator() { return allocator_; }
  const Policy& policy() const { return policy_; }

 private:
  Arena(std::string directory, LockFile& locks, std::unique_ptr<MemoryControl> control,
        SegmentAllocator::Clock clock);
  std::optional<View> reread(const ContentHash& hash, Location place, std::uint64_t sequence,
                             ReadFault& fault);

  const std::string directory_;
  LockFile& locks_;
  const std::unique_ptr<MemoryControl> control_;
  SharedIndex index_;
  SegmentMap segments_;
  SegmentAllocator allocator_;
  const Policy& policy_;
  const SegmentAllocator::Clock clock_;
};

}  // namespace alnair
