// Which segment goes when room is needed: a pure decision over a list.
//
// Thread safety: policies are immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "alnair/cache/tier.h"

namespace alnair {

// What a policy sees of a segment. Only segments that may go are shown: none that is being appended to.
struct SegmentInfo {
  DatasetTag dataset = 0;
  bool held = false;           // a live job holds the dataset
  bool main = false;           // s3fifo: made of chunks that survived an eviction
  std::uint64_t sequence = 0;  // order of creation
  std::uint64_t last_use = 0;  // milliseconds; of the last read or write
  std::uint64_t bytes = 0;
};

struct Eviction {
  std::size_t victim = 0;  // index into the list
  bool keep_read_chunks =
      false;  // copy the chunks that were read since they were written to the main segments first
};

class Policy {
 public:
  virtual ~Policy() = default;

  // nullopt: nothing may go; the put is refused. `requester` is the dataset that needs the room.
  virtual std::optional<Eviction> choose(std::span<const SegmentInfo> segments,
                                         DatasetTag requester) const = 0;

  // Whether reads must be noted chunk by chunk.
  virtual bool notes_reads() const { return false; }
};

// The policies live as long as the process.
//   kNone    The oldest segment of the least recently used dataset that no live job holds. Never the
//   requester's own: an
//            epoch reads everything once in random order, so a chunk that is kept is worth as much as a new
//            one.
//   kLru     The segment whose last use is the oldest.
//   kS3Fifo  S3-FIFO with segments for queues: new chunks enter the small queue, a tenth of the bytes; the
//   oldest segment
//            of a queue goes, but chunks that were read meanwhile are moved to the main queue, and there go
//            round again.
const Policy& policy_for(EvictionPolicy policy);

}  // namespace alnair
