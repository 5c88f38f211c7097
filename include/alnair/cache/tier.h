// A place that holds chunks by content hash: node memory, a directory, Redis.
//
// The cache may only make a job faster: no method throws for what goes wrong inside a tier. A fault (ENOSPC, EIO,
// garbage, a vanished directory...) is a miss or a refused put, is counted, and is logged once.
//
// Thread safety: all methods may be called from any thread at once. After fork(), a child opens its own tiers; Views
// that it inherited stay valid.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "alnair/core/bytes.h"
#include "alnair/core/hash.h"

namespace alnair {

// Names the dataset a chunk is put for: eviction drops whole datasets that no live job holds. 0: none.
using DatasetTag = std::uint64_t;

// What node memory gives up when it is full (src/cache/policy.h says exactly).
enum class EvictionPolicy {
  kNone,    // chunks of live jobs stay; datasets that no live job holds go, the least recently used one first
  kLru,     // the segment that was read longest ago goes
  kS3Fifo,  // first in, first out, but chunks that were read again are kept
};

struct PutRequest {
  ContentHash hash;
  View bytes;
  DatasetTag dataset = 0;
  // Outside the eviction policy: passes through, and goes after consume(). `dataset` is then whose look-ahead it is (a tag of its
  // own, which whoever looks ahead holds by hold_dataset()): until that is released it stays. 0: it has found its reader already.
  bool transit = false;
};

enum class PutOutcome {
  kStored,   // readable now, or (directories) once its segment is sealed
  kPresent,  // was there already
  kRefused,  // no room that the policy would give, or the tier is failing
};

struct TierUsage {
  std::uint64_t used_bytes = 0;     // as files are, evicted but mapped ones included
  std::uint64_t limit_bytes = 0;    // 0: no limit
  std::uint64_t chunks = 0;         // readable; approximate
  std::uint64_t transit_bytes = 0;  // the part of used_bytes that is transit
};

class Tier {
 public:
  virtual ~Tier() = default;

  // "memory", "disk", ...: the label in metrics and messages.
  virtual std::string_view name() const = 0;

  // Looks up every hash. `found(i, view)` runs exactly once for each i, from any thread, possibly after get() has
  // returned; nullopt is a miss. Bytes that another user or host could have written are checked against the hash;
  // damaged ones are dropped, counted, and a miss.
  using Found = std::function<void(std::size_t, std::optional<View>)>;
  virtual void get(std::span<const ContentHash> hashes, Found found) = 0;

  // The chunk if it can be had at once; counted nowhere, and not a use of it. For what the cache reads for itself.
  virtual std::optional<View> peek(const ContentHash& hash) { return (void)hash, std::nullopt; }

  // One bool a hash: whether a get would probably find it. No bytes are read, nothing becomes "recently used".
  virtual void contains(std::span<const ContentHash> hashes, std::span<bool> present) = 0;

  // Stores or refuses; `outcomes` may be empty when the caller does not care. Returns once the bytes are handed over
  // (the views may be released).
  virtual void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) = 0;

  // Says that a transit chunk has been read by the loop and may go. A hint.
  virtual void consume(std::span<const ContentHash> hashes) { (void)hashes; }

  // Declares (until release_dataset or the death of this process) that a live job uses the dataset.
  virtual void hold_dataset(DatasetTag dataset) { (void)dataset; }
  virtual void release_dataset(DatasetTag dataset) { (void)dataset; }

  // Forgets a chunk if it can be done cheaply; otherwise it is left to eviction.
  virtual void erase(const ContentHash& hash) = 0;

  // Makes everything that was put readable to other processes, and durable where the tier promises it.
  virtual void flush() {}

  virtual TierUsage usage() const = 0;
};

}  // namespace alnair
