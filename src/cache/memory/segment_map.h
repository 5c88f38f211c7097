// The segments of node memory that this process maps.
//
// Mappings are private (MAP_PRIVATE): a stray write stays in this process. A mapping lives as long as this
// table or any View holds it. While it lives the process holds a shared lock on its slot, which keeps the
// file of an evicted segment counted. A forked child takes over the mappings that it inherited, and locks
// them for itself.
//
// Thread safety: all methods may be called from any thread at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>

#include "cache/lock_file.h"
#include "cache/memory/control.h"
#include "cache/record.h"

namespace alnair {

// One mapped segment.
class SegmentMapping {
 public:
  SegmentMapping(LockFile& locks, std::uint64_t lock, std::uint64_t sequence, std::uint64_t nonce,
                 std::span<const std::byte> bytes)
      : locks_(locks),
        lock_(lock),
        sequence_(sequence),
        nonce_(nonce),
        bytes_(bytes),
        locked_by_(fork_generation()) {}
  ~SegmentMapping();
  SegmentMapping(const SegmentMapping&) = delete;
  SegmentMapping& operator=(const SegmentMapping&) = delete;

  std::uint64_t sequence() const { return sequence_; }
  std::uint64_t nonce() const { return nonce_; }
  // The whole segment. What the file does not have cannot be touched: see header_at().
  std::span<const std::byte> bytes() const { return bytes_; }
  // The header at `offset` if a whole record could lie between there and `published`. Nothing else is
  // verified. Call it, and touch the record, inside survives_bus_error(): the file may have been cut.
  std::optional<RecordHeader> header_at(std::uint64_t offset, std::uint64_t published) const {
    if (published > bytes_.size()) return std::nullopt;
    return read_record_header(bytes_.first(published), offset);
  }
  // Takes the lock in a forked child.
  void relock();

 private:
  LockFile& locks_;
  const std::uint64_t lock_, sequence_, nonce_;
  const std::span<const std::byte> bytes_;
  std::atomic<std::uint64_t> locked_by_;  // the fork generation that took the lock
};

class SegmentMap {
 public:
  // Takes over what an inherited SegmentMap of the same lock file maps.
  SegmentMap(std::string directory, LockFile& locks, MemoryControl& control);
  ~SegmentMap();
  SegmentMap(const SegmentMap&) = delete;
  SegmentMap& operator=(const SegmentMap&) = delete;

  std::string path(std::uint64_t sequence) const {
    return directory_ + "/segment-" + std::to_string(sequence);
  }
  std::string dead_path(std::uint64_t sequence) const {
    return directory_ + "/dead-" + std::to_string(sequence);
  }

  // Whether readers may use it: open or sealed.
  bool is_live(std::uint64_t identity) const {
    const auto state = static_cast<SegmentState>(identity & 0xff);
    return state == SegmentState::kOpen || state == SegmentState::kSealed;
  }

  // The mapping of a live segment; makes it if need be. Null if the segment is gone or damaged.
  std::shared_ptr<SegmentMapping> get(std::uint64_t sequence);

  // Gives up the mappings of segments that are not live any more. Cheap when nothing was evicted since the
  // last call.
  void drop_evicted();
  void drop_all();

 private:
  using Entry = std::shared_ptr<SegmentMapping>;
  struct Registration;

  std::shared_ptr<SegmentMapping> map(std::uint64_t sequence);
  void drop(bool all);
  void adopt_inherited();
  void start_janitor();

  const std::string directory_;
  LockFile& locks_;
  MemoryControl& control_;
  const std::uint64_t generation_ = fork_generation();
  std::shared_mutex mutex_;
  // One a slot, each null or a heap-allocated entry that is complete when it becomes visible: a forked child
  // may read them without the mutex, which could have been locked when it was forked.
  std::unique_ptr<std::atomic<Entry*>[]> entries_;
  std::atomic<std::uint32_t> seen_evictions_{0};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<std::thread>
      janitor_;  // gives up the mappings of evicted segments while the process is idle
  Registration* registration_ = nullptr;
};

}  // namespace alnair
