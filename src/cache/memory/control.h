// The control file of node memory: limits, and a table of segments, mapped by all processes.
//
// Every field that changes is one atomic word, so no kill leaves one half-written. Who changes what:
//   - slots are taken, sealed by force, evicted and freed under the allocation lock;
//   - `published`, `records` and the step from open to sealed belong to the holder of the segment's owner
//   lock;
//   - `last_use` and `consumed` are hints that anyone may write.
//
// Thread safety: all methods may be called from any thread at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "alnair/cache/tier.h"

namespace alnair {

enum class SegmentState : std::uint64_t {
  kFree,
  kMaking,  // its file is being made; only ever seen by others if the maker was killed
  kOpen,    // may be appended to
  kSealed,
  kDead,  // evicted; its file stays until no process maps it
};

enum class SegmentArea : std::uint32_t { kSmall, kMain, kTransit };  // kMain: s3fifo's survivors

struct alignas(64) SegmentSlot {
  std::atomic<std::uint64_t> identity;  // sequence << 8 | state
  std::atomic<std::uint64_t> nonce;     // seeds the checksums of its records
  std::atomic<std::uint64_t> dataset;   // tag; of transit: whose look-ahead
  std::atomic<std::uint64_t> last_use;  // milliseconds
  std::atomic<std::uint32_t> area;
  std::atomic<std::uint32_t> published;  // bytes: records lie in [sizeof(SegmentHeader), published)
  std::atomic<std::uint32_t> records;
  std::atomic<std::uint32_t> consumed;  // records of transit segments that were consumed

  std::uint64_t sequence() const { return identity.load(std::memory_order_acquire) >> 8; }
  SegmentState state() const {
    return static_cast<SegmentState>(identity.load(std::memory_order_acquire) & 0xff);
  }
  bool is_transit() const { return area == static_cast<std::uint32_t>(SegmentArea::kTransit); }
  void set(std::uint64_t sequence, SegmentState state) {
    identity.store(sequence << 8 | static_cast<std::uint64_t>(state), std::memory_order_release);
  }
};
static_assert(sizeof(SegmentSlot) == 64);

// The first bytes of a segment's file: says which segment it is.
struct SegmentHeader {
  std::uint64_t magic = 0;
  std::uint64_t sequence = 0;
  std::uint64_t nonce = 0;
  std::uint64_t dataset = 0;
};
inline constexpr std::uint64_t kSegmentMagic = 0x316765736e6c61;  // "alnseg1"
inline constexpr std::uint64_t kFirstRecord = 64;                 // offset of a segment's first record

// What the first process records and later ones adopt. Bytes.
struct MemoryLimits {
  std::uint64_t limit = 0;
  std::uint64_t transit = 0;  // the part of `limit` that is kept for transit
  std::uint64_t segment = 0;  // size of a segment
  EvictionPolicy policy = EvictionPolicy::kNone;
};

class MemoryControl {
 public:
  // Maps the file if it is there and intact; else null.
  static std::unique_ptr<MemoryControl> open(const std::string& path);
  // Makes the file, under a temporary name first, in place of what is there. The caller holds the allocation
  // lock. Throws CacheError (no room, read-only...).
  static std::unique_ptr<MemoryControl> make(const std::string& path, const MemoryLimits& limits);
  ~MemoryControl();

  const MemoryLimits& limits() const { return limits_; }

  // A power of two. Segment `sequence` can only be in slot `sequence % slots()`; its id in the shared index
  // is `sequence % SharedIndex::kSegmentIds`.
  std::uint32_t slots() const { return slot_count_; }
  SegmentSlot& slot(std::uint64_t number) { return slots_[number & (slot_count_ - 1)]; }

  std::atomic<std::uint64_t>& next_sequence();
  // Counts evictions: when it changes, processes look for mappings to give up.
  std::uint32_t evictions() const;
  void announce_eviction();
  // Sleeps until the count differs from `seen` (or for some seconds); returns the count.
  std::uint32_t wait_for_eviction(std::uint32_t seen) const;

  // Whether the file at the path is still this one.
  bool is_current() const;

 private:
  struct Header;
  MemoryControl() = default;
  std::string path_;
  Header* header_ = nullptr;
  SegmentSlot* slots_ = nullptr;
  std::uint32_t slot_count_ = 0;
  std::uint64_t bytes_ = 0, device_ = 0, inode_ = 0;
  MemoryLimits limits_;
};

}  // namespace alnair
