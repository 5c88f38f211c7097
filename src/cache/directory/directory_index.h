// Where in a directory's segments each chunk is: shared by the processes of a node, or private to one.
//
// A hint, no more: a place that is out of date costs a miss, because bytes are checked against their content
// hash. Thread-safe; never touches the directory. Changes of what segments there are (add, remove) exclude
// each other by DirectoryShare::change().
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "cache/directory/directory_share.h"
#include "cache/directory/segment_table.h"
#include "cache/shared_index.h"

namespace alnair {

// Where a chunk's bytes may be.
struct ChunkPlace {
  std::uint32_t slot = 0;
  std::uint32_t offset = 0;
  SegmentNonce segment{};
};

// The few places that the index names for one chunk; nearly always one.
struct ChunkPlaces {
  std::array<ChunkPlace, 3> places;
  std::size_t count = 0;
  const ChunkPlace* begin() const { return places.data(); }
  const ChunkPlace* end() const { return places.data() + count; }
};

class DirectoryIndex {
 public:
  // Private to this process.
  explicit DirectoryIndex(std::uint32_t slots) : table_(std::make_unique<SegmentTable>(slots)) {}
  // Shared; `slots` and `max_bytes` (of the index) count for who makes it. Throws CacheError. Only under
  // change().
  DirectoryIndex(const DirectoryShare& share, std::uint32_t slots, std::uint64_t max_bytes);

  SegmentTable& table() const { return *table_; }

  ChunkPlaces find(const ContentHash& hash) const;

  // Enters a segment and its chunks. Returns how many chunks found no room: none, or (the table is full) all
  // of them.
  std::size_t add(const SegmentFooter& footer, std::uint64_t file_bytes, std::int64_t created_ns,
                  std::int64_t last_used_ns);
  void remove(std::uint32_t slot);
  // Forgets this place of the chunk; whether it was known.
  bool erase(const ContentHash& hash, const ChunkPlace& place);

 private:
  std::unique_ptr<SegmentTable> table_;
  std::unique_ptr<SharedIndex> shared_;  // null: private, in `locations_`
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::uint64_t, Location> locations_;  // by the hash's first 64 bits: enough for a hint
};

}  // namespace alnair
