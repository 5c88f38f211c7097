// The tiers in order, with single-flight, promotion and fall-through to the object source.
//
// How a chunk that is not in node memory travels:
//   1. In this process one flight a chunk: whoever asks for it meanwhile joins. The origin is asked for the content hashes of
//      what nobody has asked for yet (it may look them up in the catalog); what is known is looked for in node memory.
//   2. If its content hash is known, it is looked for in this process (node memory had no room for it, or a filler has it on its
//      way to a tier), then in the lower tiers in order, then in those that all nodes share. A hit is promoted to node memory.
//   3. Else, or on a miss, one process of the node fetches it: the holder of the chunk's lock in the LockFile. The
//      kernel releases the lock when its holder dies. The others look again every few milliseconds: either the chunk
//      has appeared in node memory, or the lock is free and it is their turn.
//      In a cluster the holder then looks for what other nodes have told and stored, asks for the chunk's lease, and looks once
//      more, because the lease's last holder may just have finished. While another node has the lease, it looks again every now
//      and then; when that node is gone, it is its turn.
//   4. The holder fetches. A landing thread hashes, fills node memory, tells the hash, releases the lock (in this order: who
//      gets the lock next finds the chunk), hands the bytes to the readers, and leaves the other tiers to the fillers, and to
//      Cluster::publish(), which ends the lease.
//
// Thread safety: all methods may be called from any thread. One object per process: a forked child makes its own.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/core/bytes.h"
#include "alnair/core/hash.h"
#include "alnair/source/object_source.h"

namespace alnair {

class Cluster;
class LockFile;

// A chunk of a dataset, by its place.
struct ChunkRead {
  ChunkId id;
  std::uint64_t object_index = 0;  // in the manifest
  std::uint64_t ordinal = 0;       // in the dataset's table of content hashes
  std::uint64_t offset = 0;        // in the object, bytes
  std::uint64_t length = 0;        // bytes
  std::uint16_t arrivals = 0;      // of look-ahead: ChunkOrigin::arrivals() when the loop drew it
  bool once = false;               // what asks for it reads all of it, in this process, and then no more
};

struct HashedChunk {
  ChunkRead read;
  ContentHash hash;
};

// A dataset's side: where its chunks come from, and what is known of their hashes. Thread-safe.
class ChunkOrigin {
 public:
  virtual ~ChunkOrigin() = default;
  virtual DatasetTag tag() const = 0;
  // Whether the lower tiers can hold the whole dataset. Where they cannot, what node memory keeps is not put there too.
  virtual bool fits_lower_tiers() const = 0;
  virtual ObjectSource& source() = 0;
  virtual ObjectInfo object(std::uint64_t object_index) const = 0;
  // Cheap: what the processes of this node know, not what a catalog would have to be asked for.
  virtual std::optional<ContentHash> known_hash(const ChunkRead& chunk) const = 0;
  // The same with the catalog's help, for chunks of which the node knows nothing: sets the hashes that it finds. May wait
  // for a disk.
  virtual void find_hashes(std::span<const ChunkRead> chunks, std::span<std::optional<ContentHash>> hashes) = 0;
  virtual void learned_hashes(std::span<const HashedChunk> chunks) = 0;
  // A number that another process's learned_hashes() of the chunk changes, and those of some others. Cheap.
  virtual std::uint16_t arrivals(const ChunkRead& chunk) const = 0;
};

class TieredCache {
 public:
  struct Options {
    std::shared_ptr<Tier> memory;                // null: no node memory could be had
    std::vector<std::shared_ptr<Tier>> lower;    // the node's own, in the order in which they are asked
    std::vector<std::shared_ptr<Tier>> shared;   // all nodes'; asked after those
    std::shared_ptr<Cluster> cluster;            // null: the node arranges nothing with others
    std::vector<LockFile*> locks;                // chunks are spread over them; none: single-flight in this process only
    std::function<bool()> is_alone;              // whether nobody else reads through this node memory; null: others may
    bool keep = true;                            // false: fills node memory's transit area only (usecache=False, single_pass)
    std::uint64_t fill_queue_bytes = 256ull << 20;     // that wait for the lower tiers outside of node memory
    std::uint64_t fill_patient_bytes = 1024ull << 20;  // likewise, in node memory; at most a quarter of it
    std::uint64_t landing_bytes = 64ull << 20;         // that have come and are not in node memory yet; as much where it has no room
    std::uint64_t max_read_bytes = 16ull << 20;  // neighbouring chunks of an object are fetched by one request
  };

  // Runs exactly once for each chunk, on any thread; must be quick and must not throw. On success the error is null.
  using Done = std::function<void(std::size_t index, View bytes, std::exception_ptr error)>;

  explicit TieredCache(Options options);
  ~TieredCache();

  // Node memory, now or not at all.
  void find_in_memory(std::span<const ContentHash> hashes, const Tier::Found& found);
  bool in_memory(const ContentHash& hash);

  // Brings chunks that node memory did not have, or whose hashes the node does not know. Asks the origin for hashes, and
  // returns. `ahead` is 0 for who reads them at once. Look-ahead has a tag there that it holds (Tier::hold_dataset): what
  // node memory does not keep waits for its reader in transit under this tag. What a process of the node has brought
  // since the loop drew it is not fetched for look-ahead; `done` then gets no bytes and no error.
  void fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done, DatasetTag ahead = 0);

  // Says that the loop has read these: transit may drop them.
  void consume(std::span<const ContentHash> hashes);

  bool fill_is_behind() const;  // the lower tiers cannot keep up: fetch no further ahead
  void flush();

  Tier* memory() const;
  std::span<const std::shared_ptr<Tier>> lower() const;

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace alnair
