// Makes, grows, seals and evicts the segments of node memory, within its limits, for all processes at once.
//
// The limits are held by counting files as they are (their blocks), each time room is taken: no counter, so
// that no kill can leave one wrong. All changes to the set of segments are made under the allocation lock,
// which dies with its holder; whoever takes it next cleans up first.
//
// Thread safety: all methods may be called from any thread at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"
#include "cache/lock_file.h"
#include "cache/memory/control.h"
#include "cache/memory/segment_map.h"
#include "cache/policy.h"
#include "cache/shared_index.h"
#include "core/file.h"

namespace alnair {

// Chunks of a kind share segments.
struct SegmentKind {
  DatasetTag dataset = 0;  // of transit: whose look-ahead it is; 0: what has found its reader
  SegmentArea area = SegmentArea::kSmall;

  bool is_transit() const { return area == SegmentArea::kTransit; }
  bool is_ahead() const { return is_transit() && dataset != 0; }
  bool is_passing() const { return is_transit() && dataset == 0; }
};

// A segment that this thread appends to. Nobody else does while `owner` is held.
struct OwnedSegment {
  LockFile::Guard owner;
  FileDescriptor file;
  std::uint64_t sequence = 0;
  std::uint64_t nonce = 0;
  std::uint64_t position = 0;  // where the next record goes
  std::uint64_t reserved = 0;  // length of the file: room that is counted and cannot run out
};

// A chunk of an evicted segment that the policy wants kept.
struct Survivor {
  ContentHash hash;
  DatasetTag dataset = 0;
  View bytes;
};

class SegmentAllocator {
 public:
  using Clock = std::uint64_t (*)();  // milliseconds

  SegmentAllocator(std::string directory, LockFile& locks, MemoryControl& control, SharedIndex& index,
                   SegmentMap& segments, Clock clock);

  // Takes an open segment of the kind that nobody owns and that has room for `bytes` more, or was left behind
  // by a killed process.
  std::optional<OwnedSegment> adopt(const SegmentKind& kind, std::uint64_t bytes);

  // Makes a new one with room for `bytes`. nullopt: no room that the policy would give, or too many are open.
  std::optional<OwnedSegment> make(const SegmentKind& kind, std::uint64_t bytes,
                                   std::vector<Survivor>* survivors);

  // Whether others are appending to segments that have room for `bytes`, or that give way to the kind: it may pay to wait.
  bool is_busy(const SegmentKind& kind, std::uint64_t bytes);

  // Whether a record of `bytes` goes into a segment of the kind that is filled up to `position`, rather than into the next one.
  bool fits(const SegmentKind& kind, std::uint64_t position, std::uint64_t bytes) const;

  // Sees to it that `bytes` more can be appended without running out of room.
  bool reserve(OwnedSegment& segment, const SegmentKind& kind, std::uint64_t bytes,
               std::vector<Survivor>* survivors);

  // Nothing more will be appended: gives back the room that is left.
  void seal(OwnedSegment& segment);

  // Removes what killed processes have left: half-made segments, evicted ones that nobody maps, unknown
  // files.
  void clean_up();

  TierUsage usage();

  // A dataset that the policy has refused is refused again for some milliseconds, without counting files.
  // Call this when there is reason to ask again.
  void forget_refusal() { refused_until_ = 0; }

  void note_fault() { ++faults_; }
  // Errors of the file system, and bytes evicted, since the last call.
  std::uint64_t take_faults() { return faults_.exchange(0); }
  std::uint64_t take_evicted_bytes() { return evicted_bytes_.exchange(0); }

 private:
  struct Blocks {  // bytes, as files are
    std::uint64_t total = 0, transit = 0, dead = 0, dead_transit = 0;
    std::vector<std::uint64_t> of_slot;
  };
  bool fits(const SegmentSlot& slot, const SegmentKind& kind, std::uint64_t bytes) const;
  std::uint64_t full_size(const SegmentKind& kind) const;
  Blocks count_blocks(bool remove_orphans);
  std::optional<OwnedSegment> make_locked(const SegmentKind& kind, std::uint64_t bytes, std::vector<Survivor>* survivors);
  void free_dead_segments();
  void retire(std::uint32_t number);
  bool use_spare(OwnedSegment& segment, std::uint64_t size);
  void drop_spare();
  bool make_room(const SegmentKind& kind, std::uint64_t bytes, std::vector<Survivor>* survivors);
  bool evict_one(const SegmentKind& kind, SegmentArea area, const Blocks& blocks, std::vector<Survivor>* survivors);
  bool evict_passed(const Blocks& blocks);
  std::optional<Eviction> choose_forgotten(const std::vector<SegmentInfo>& infos) const;
  void evict(std::uint32_t number);
  void rescue(std::uint32_t number, std::vector<Survivor>& survivors);
  bool extend(const OwnedSegment& segment, const SegmentKind& kind, std::uint64_t size,
              std::vector<Survivor>* survivors);
  bool refused_lately(const SegmentKind& kind) const {
    return !kind.is_transit() && kind.dataset == refused_dataset_ && clock_() < refused_until_;
  }
  std::uint64_t step_for(const SegmentKind& kind) const;
  std::optional<std::uint64_t> free_sequence();
  bool may_open_another();
  LockFile::Guard allocation_lock();

  // An evicted segment's file that nobody has open: what make() makes of it needs no new pages, which cost more than to write them. It
  // counts as freed. Guarded, as wants_spare_, by the allocation lock, and gone when that is given back.
  struct Spare {
    std::uint64_t sequence = 0;
    FileDescriptor file;
    std::uint64_t bytes = 0;
  };

  const std::string directory_;
  LockFile& locks_;
  MemoryControl& control_;
  SharedIndex& index_;
  SegmentMap& segments_;
  const Policy& policy_;
  const Clock clock_;
  const std::uint64_t step_;  // files grow by this, or multiples of it
  std::optional<Spare> spare_;
  bool wants_spare_ = false;
  std::atomic<std::uint64_t> refused_until_{0}, refused_dataset_{0};
  std::atomic<std::uint64_t> impatient_until_{0};  // milliseconds of clock_
  std::atomic<std::uint64_t> faults_{0}, evicted_bytes_{0};
};

}  // namespace alnair
