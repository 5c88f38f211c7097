// Counters and latency histograms, always on: one relaxed atomic add each.
//
// They live in a block of shared memory that forked children inherit and that spawned ones can open by its path, so the
// main process of a job sees the sums over all its workers.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace alnair {

enum class Counter {
  kS3GetObject,      // GetObject requests sent, retries and hedges apart
  kS3HeadObject,
  kS3ListObjects,    // pages
  kS3Retries,        // attempts after a request's first
  kS3Hedges,         // duplicates of stragglers
  kS3Throttled,      // 503 SlowDown and 429 answers
  kS3BytesReceived,  // body bytes
  kS3Mismatches,     // bodies that failed an integrity check
  kSourceErrors,     // reads that ended in an error
  kOpenedDatasets,
  kReads,            // samples read
  kReadBytes,
  kWaitMicros,       // time that read calls blocked
  kWaitTiersMicros,  // of it: calls that needed a slower tier than node memory
  kWaitSourceMicros, // of it: calls for what this node had not read yet
  kPrefetchedChunks,
  kCatalogFaults,    // lookups and batches of the catalog that failed
  // Of the flusher, where it runs in this job; the first three are states, not counts.
  kFlushDirtyBytes,        // that only Redis has: as counted, and what has come since, about
  kFlushDirtySeconds,      // the age of the oldest of them
  kFlushCountedSeconds,    // since they were counted
  kFlushWrittenBytes,      // to the shared directory
  kFlushReleasedChunks,    // that Redis may evict since then
  kFlushExposedChunks,     // that Redis might have evicted, and the shared directory did not have (any more)
  kFlushEvictedKeys,       // evictions that were seen
  kFlushEvictedUnvouched,  // of them, at most, those of chunks that are not in the shared directory
  kCount
};

// Where a read's bytes came from. kSource is the object source itself.
enum class TierId { kMemory, kDisk, kRedis, kSpill, kSource, kCount };

enum class TierCounter {
  kHits,
  kHitBytes,
  kMisses,
  kPuts,
  kPutBytes,
  kRefused,
  kEvictedBytes,
  kCorrupt,  // records whose bytes did not match their name
  kFaults,   // errors of the file system or server
  kCount
};

class Metrics {
 public:
  static constexpr int kBuckets = 32;  // bucket i: latencies in [2^i, 2^(i+1)) microseconds

  void add(Counter counter, std::uint64_t n = 1) { bump(counters_[static_cast<int>(counter)], n); }
  void set(Counter state, std::uint64_t n) { counters_[static_cast<int>(state)].store(n, std::memory_order_relaxed); }
  void add(TierId tier, TierCounter counter, std::uint64_t n = 1) {
    bump(tiers_[static_cast<int>(tier)][static_cast<int>(counter)], n);
  }
  // Records how long one read from `tier` took.
  void record_latency(TierId tier, std::chrono::nanoseconds latency);

  std::uint64_t value(Counter counter) const { return counters_[static_cast<int>(counter)]; }
  std::uint64_t value(TierId tier, TierCounter counter) const {
    return tiers_[static_cast<int>(tier)][static_cast<int>(counter)];
  }

  // Everything by name ("s3_get_object", "memory_hits", "memory_latency_p50_us"...), for alnair.stats().
  std::map<std::string, double> snapshot() const;

 private:
  static void bump(std::atomic<std::uint64_t>& cell, std::uint64_t n) {
    cell.fetch_add(n, std::memory_order_relaxed);
  }
  std::array<std::atomic<std::uint64_t>, static_cast<int>(Counter::kCount)> counters_;
  std::array<std::array<std::atomic<std::uint64_t>, static_cast<int>(TierCounter::kCount)>,
             static_cast<int>(TierId::kCount)>
      tiers_;
  std::array<std::array<std::atomic<std::uint64_t>, kBuckets>, static_cast<int>(TierId::kCount)> latency_;
};

// This process's block: made at first use, shared with children forked after that. Thread-safe.
Metrics& metrics();

// A path by which another process of the same user can share this block while this process lives; and the call that does it.
// attach_metrics returns false, and changes nothing, when the block is gone or is none.
std::string metrics_path();
bool attach_metrics(const std::string& path);

}  // namespace alnair
