// Node memory: the first tier. Chunks in shared memory (/dev/shm), for all processes of one user on a node.
//
// Chunks lie in segments of up to 64 MiB, found through a shared index and read in place: a View is a private
// mapping of the segment, so a stray write stays in the process. Each read is checked by XXH3; what is
// damaged is a miss. There is no daemon: limits hold by counting files, and whatever a killed process leaves
// behind, the next one cleans up (allocator.h, segment_writer.cc and shared_index.cc have the protocols as
// numbered steps).
//
// The first process to open the directory records limits and policy; later ones adopt them. The limit is
// shared between `transit` (chunks that pass through, outside the policy: they stay until they are consumed, as long as whoever
// looks ahead lives) and the rest. Evicted segments count until the last process has unmapped them: a process does so at its
// next operation, once no View of them is left.
//
// Thread safety: all methods may be called from any thread at once. A forked child opens its own; Views, and
// the mappings that they share, are inherited.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"
#include "cache/memory/arena.h"
#include "core/log.h"

namespace alnair {

struct NodeMemoryOptions {
  std::string directory;  // empty: ALNAIR_MEMORY_DIR, else /dev/shm/alnair-<uid>
  std::uint64_t limit =
      0;  // bytes; 0: half of the free space, a quarter of the control group's remaining memory
  std::uint64_t transit_limit = 0;  // bytes of `limit` kept for transit; 0: a quarter
  std::uint64_t segment_bytes = 0;  // 0: from the limit
  EvictionPolicy policy = EvictionPolicy::kNone;
  SegmentAllocator::Clock clock = nullptr;  // milliseconds; null: the system's
};

class NodeMemory : public Tier {
 public:
  // Makes the directory (mode 0700) if need be. Throws CacheError when it belongs to someone else, is a
  // symbolic link or cannot be made. When there is no room in it the tier is off, and tries again from time
  // to time.
  static std::shared_ptr<NodeMemory> open(const NodeMemoryOptions& options);
  ~NodeMemory() override;

  // The chunk, checked; nullopt: a miss. Counted, as get() is. The direct way for one hash.
  std::optional<View> find(const ContentHash& hash);

  std::string_view name() const override { return "memory"; }
  void get(std::span<const ContentHash> hashes, Found found) override;
  std::optional<View> peek(const ContentHash& hash) override;
  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override;
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override;
  void consume(std::span<const ContentHash> hashes) override;
  void hold_dataset(DatasetTag dataset) override;
  void release_dataset(DatasetTag dataset) override;
  void erase(const ContentHash& hash) override;
  TierUsage usage() const override;

  const std::string& directory() const { return options_.directory; }
  // What the directory's first process recorded; zeros while the tier is off.
  MemoryLimits limits() const;
  // Bytes of the largest chunk that has room in a segment.
  std::uint64_t largest_chunk() const;
  // The lock file of the directory, for single-flight among processes; null while the tier is off.
  LockFile* locks() const;

 private:
  explicit NodeMemory(NodeMemoryOptions options);

  Arena* current() const { return current_.load(std::memory_order_acquire); }
  // The arena, made anew if the directory was deleted or replaced. Null while the tier is off.
  Arena* usable();
  void open_arena();
  std::optional<View> look_up(Arena& arena, const ContentHash& hash, bool counts);
  static bool is_consumed(Arena& arena, const ContentHash& hash, Location place);
  PutOutcome put_one(Arena& arena, class SegmentWriter& writer, const PutRequest& request);
  void report(Arena& arena);

  NodeMemoryOptions options_;
  const std::uint64_t generation_ = fork_generation();
  std::atomic<Arena*> current_{nullptr};
  std::mutex mutex_;  // guards what follows
  // Those that were replaced stay, without mappings: a reader may be in one. So their number is bounded.
  std::vector<std::unique_ptr<Arena>> arenas_;
  std::map<DatasetTag, int> holds_;
  std::chrono::steady_clock::time_point last_attempt_{};
  Once off_logged_, replaced_logged_, damage_logged_, fault_logged_;
};

}  // namespace alnair
