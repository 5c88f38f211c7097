// A dataset of raw objects, read through the cache. This is what Python's AlnairJobDataset and C++ programs use.
//
//   auto dataset = alnair::Dataset::open({.source = "s3://fashion", .keys = {"train"}});
//   alnair::View sample = dataset->read(0);
//
// Thread safety: all methods may be called from any thread at once. A Dataset survives fork(): the child's first
// call opens its own connections, locks and threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/core/bytes.h"
#include "alnair/dataset/manifest.h"
#include "alnair/source/object_source.h"
#include "alnair/source/s3_source.h"

namespace alnair {

// Which of the chunks that Redis may evict go first (docs/cluster.md says what each is for).
enum class FlushOrder {
  kRecency,    // what was read longest ago
  kFrequency,  // what was read least often
  kNextUse,    // what is needed last, by the order that the prefetcher was given
};

// Where chunks are kept on this node. Sizes are bytes. 0 in a limit: the default, from what is free (docs/configuration.md).
// The first process on a node records the limits of a memory directory; later ones adopt them.
struct CacheOptions {
  std::string cache_dir;   // catalog, manifests, directory tier; empty: $XDG_CACHE_HOME/alnair, else ~/.cache/alnair
  std::string memory_dir;  // node memory; empty: ALNAIR_MEMORY_DIR, else /dev/shm/alnair-<uid>
  std::uint64_t memory_limit = 0;
  std::uint64_t disk_limit = 0;
  std::uint64_t chunk_size = (4u << 20) - (4u << 10);
  EvictionPolicy eviction = EvictionPolicy::kNone;
  bool use_cache = true;  // false: keep only the bounded transit area of node memory
  bool single_pass = false;  // each object is read once (inference): every tier is read, none is filled but the transit area

  // A Redis Cluster (or one server, or a proxy) that all nodes share: "redis://user:password@host:6379,host:6379", as
  // docs/cluster.md says. Empty: none. The namespace and domain in its options count for `spill`, too.
  std::string redis;

  // Directories that all nodes share (NFS), each chunk in one of them; absolute, and named alike on all nodes. The mode is
  // for what is made in them (0700, or 02770 to share with a group); the limit counts in each.
  std::vector<std::string> spill;
  std::uint32_t spill_mode = 0700;
  std::uint64_t spill_limit = 0;
  // Where `redis` is empty: whose chunks they are.
  std::string spill_namespace = "alnair", spill_domain = "default";
  std::chrono::minutes spill_durability{1440};  // since a live job last named a chunk; then it is given up

  // With both, where Redis evicts by expiry (volatile-ttl), chunks are written to the directory before they may be evicted: how often that
  // is looked after, how many bytes may be written each time (0: 8 GiB), and which of them go first. `flush`: this process may be the
  // one that does it.
  std::chrono::milliseconds flush_frequency{5'000};
  std::uint64_t flush_amount = 0;
  FlushOrder flush_policy = FlushOrder::kRecency;
  bool flush = true;
};

struct DatasetOptions {
  std::string source;             // "s3://bucket", "s3://bucket/path", "file:///directory"
  std::vector<std::string> scope; // entries the datasource consists of (a job's keys); a path in `source` replaces them
  std::vector<std::string> keys;  // entries that narrow it; empty: everything in the datasource. See docs/semantics.md
  S3Options s3;
  CacheOptions cache;
  std::string version;      // open exactly this manifest; empty: list the source, and compare
  std::shared_ptr<const std::vector<std::byte>> manifest;  // the bytes of `version`, where this node may not know it
  // The content hashes of its chunks as far as somebody knows them, who is trusted: 32 bytes each, in their order, zeros where not.
  // Ignored where it is of another number of chunks. So chunks are found in tiers that others have filled.
  std::shared_ptr<const std::vector<std::byte>> hashes;
  std::string run;          // names a run: its processes on a node list once, and read the version that the first one found
  bool refresh = true;      // false: the newest known manifest, without listing
  // Where there are no S3 credentials: the socket of a manager's daemon, which serves misses, and the identity of the source
  // that the manager reads. Needs a version, and the tiers that the manager fills.
  std::string miss_socket, miss_identity;
  std::shared_ptr<ObjectSource> object_source;  // instead of what `source` names (tests, other stores)
};

// Progress of listing, about ten times a second: objects and bytes so far.
using ListProgress = std::function<void(std::uint64_t objects, std::uint64_t bytes)>;

// The outcome of one read of a batch.
struct Sample {
  View bytes;
  std::exception_ptr error;  // null on success
};

class Dataset {
 public:
  static constexpr std::uint64_t kToEnd = std::numeric_limits<std::uint64_t>::max();

  // Lists the source and registers the manifest (or opens a known one). Blocks.
  // Throws ConfigError, AccessError, NotFoundError (no such bucket; nothing matched: names near ones), SourceError,
  // TimeoutError, CacheError.
  static std::shared_ptr<Dataset> open(const DatasetOptions& options, const ListProgress& progress = {},
                                       const Interrupt& interrupt = {});
  virtual ~Dataset() = default;

  virtual const Manifest& manifest() const = 0;
  virtual const std::string& version() const = 0;            // the manifest's hash
  virtual const std::vector<std::string>& warnings() const = 0;  // of open(): an entry taken as a raw prefix...

  // The manifest, for DatasetOptions::manifest on another node. Empty: the catalog does not have it (any more). Blocks.
  virtual std::vector<std::byte> manifest_blob() const = 0;

  // The bytes [offset, offset + length) of object `index` of the manifest, clamped to its size. Fetches only the chunks
  // that it needs. Blocks. Throws std::out_of_range, ChangedError, NotFoundError, AccessError, SourceError, TimeoutError.
  virtual View read(std::uint64_t index, std::uint64_t offset = 0, std::uint64_t length = kToEnd,
                    const Interrupt& interrupt = {}) = 0;

  // Whole objects, in parallel. One outcome for each index, in their order. Throws only what `interrupt` throws.
  virtual std::vector<Sample> read_batch(std::span<const std::uint64_t> indices, const Interrupt& interrupt = {}) = 0;

  // Brings a part of an object, clamped to its size, into node memory ahead of a read(), without limit but the node's; returns
  // at once. An error is met again by that read. Throws std::out_of_range.
  virtual void read_ahead(std::uint64_t index, std::uint64_t offset, std::uint64_t length) = 0;

  // Brings objects into node memory ahead of the reads, in this order, on background threads; returns at once.
  // Replaces what an earlier call has left undone. At most `budget_bytes` (0: the default, which fits the
  // transit area, which the processes of the node share) are ahead of what was reported by prefetch_advance(), which counts
  // indices of this order that the loop has consumed. Of an object that is larger, the beginning is brought.
  // `for_this_process`: nobody else will read them; while no other process reads through this node memory, what finds no
  // room to stay there waits in this one, up to 64 MiB.
  virtual void prefetch(std::vector<std::uint64_t> order, std::uint64_t budget_bytes = 0,
                        bool for_this_process = false) = 0;
  virtual void prefetch_extend(std::span<const std::uint64_t> more) = 0;  // appends to the order
  // `drawn` counts the indices of this order that were given to readers, also of other processes; at least `consumed`. What they
  // have brought since then is not brought once more. A read of this process, of what comes next in the order, counts by itself.
  virtual void prefetch_advance(std::uint64_t consumed, std::uint64_t drawn = 0) = 0;
  virtual void prefetch_cancel() = 0;

  // Writes out what is still queued for the directory tier and the catalog.
  virtual void flush() = 0;

  virtual TierUsage memory_usage() const = 0;
  virtual TierUsage disk_usage() const = 0;
  virtual TierUsage spill_usage() const = 0;
};

}  // namespace alnair
