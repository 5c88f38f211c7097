// Reads a dataset's objects through the tiered cache, in one process.
//
// Thread safety: all methods may be called from any thread. A forked child makes its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "alnair/dataset/dataset.h"
#include "dataset/arrival_counts.h"
#include "dataset/chunking.h"
#include "dataset/hash_table.h"
#include "dataset/node.h"
#include "dataset/prefetcher.h"

namespace alnair {

class Reader {
 public:
  struct Parts {
    std::shared_ptr<Node> node;
    std::shared_ptr<ObjectSource> source;
    std::shared_ptr<const Manifest> manifest;
    std::shared_ptr<const Chunking> chunking;
    std::shared_ptr<const ChunkNamer> namer;
    std::shared_ptr<SharedHashes> hashes;
    DatasetTag tag = 0;
  };
  explicit Reader(Parts parts);
  ~Reader();

  // One read of a batch: the bytes [offset, offset + length) of an object, within its size.
  struct Range {
    std::uint64_t index = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  // One outcome for each range. Throws only what `interrupt` throws.
  std::vector<Sample> read(std::span<const Range> ranges, const Interrupt& interrupt);

  // Brings the chunks of a range into node memory; returns at once. An error is met again by whoever reads them.
  void read_ahead(const Range& range);

  // Look-ahead, as Dataset has it. `budget_bytes` 0: what fits.
  void prefetch(std::vector<std::uint64_t> order, std::uint64_t budget_bytes, bool for_this_process);
  void cancel_prefetch();
  // Says what the consumer will read next, in this order: in place of what was said before (`again`), or after it. For what Redis may
  // evict (use_teller.h); the prefetcher is told apart.
  void expect(std::span<const std::uint64_t> order, bool again) const;

  Prefetcher& prefetcher() { return prefetcher_; }
  Node& node() { return *parts_.node; }

 private:
  std::uint64_t named_version() const;
  class Origin;
  struct Batch;

  // Splits ranges into chunks; those that node memory has are answered at once.
  void start(const std::shared_ptr<Batch>& batch);
  void bring(std::span<const Prefetcher::Object> objects, const std::function<void(std::uint64_t)>& landed);
  // How many of an object's first chunks look-ahead brings: what transit holds of it.
  std::uint64_t chunks_ahead(std::uint64_t object_size) const;
  std::uint64_t bytes_ahead(std::uint64_t index) const;
  std::uint64_t mark_of(std::uint64_t index) const;
  std::uint64_t most_ahead() const;  // bytes that one process may have ahead of its loop in transit
  std::uint64_t room_ahead() const;  // that this one may have for now
  std::uint64_t processes() const;   // of the node that look ahead
  void hold_look_ahead(DatasetTag tag);
  ChunkRead chunk_read(std::uint64_t object_index, std::uint64_t chunk) const;
  std::optional<ContentHash> known_hash(std::uint64_t object_index, std::uint64_t chunk) const;
  std::vector<ContentHash> known_hashes(std::span<const std::uint64_t> indices) const;  // of their chunks

  const Parts parts_;
  const std::shared_ptr<ArrivalCounts> arrivals_;
  const std::shared_ptr<Origin> origin_;
  std::mutex ahead_mutex_;
  DatasetTag last_ahead_ = 0;               // of the order before; 0: none. Its end may be the beginning of this one
  std::atomic<DatasetTag> ahead_{0};        // of this order, in transit
  std::atomic<bool> reads_here_{false};     // the loop reads in this process
  Prefetcher prefetcher_;  // last: its thread uses the rest
};

// A manifest's version, cut into such chunks, as shared directories know it. Pure.
std::uint64_t named_version(const std::string& version, std::uint64_t chunk_size);

}  // namespace alnair
