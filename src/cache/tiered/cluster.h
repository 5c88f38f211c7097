// What the nodes of a cluster arrange with each other, beside the tiers that they share: what is known of chunks, and who
// fetches them.
//
// Thread-safe. Nothing but flush() and close() waits. All of it saves fetches, no more: what fails is unknown, unavailable or
// forgotten, and the node goes on by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/core/hash.h"

namespace alnair {

enum class LeaseOutcome {
  kGranted,      // this process fetches
  kHeld,         // another one does: look again later
  kUnavailable,  // there is nobody to arrange it with
};

class Cluster {
 public:
  virtual ~Cluster() = default;

  // The content hashes that any node has told. `found` once, with one element for each id.
  using Found = std::function<void(std::vector<std::optional<ContentHash>>)>;
  virtual void find_hashes(std::span<const ChunkId> ids, Found found) = 0;

  // Asks to be the one who fetches. `done` once, with one outcome for each id. A lease that is granted ends with publish(),
  // release(), close(), or a few seconds after this process.
  using Leased = std::function<void(std::vector<LeaseOutcome>)>;
  virtual void acquire(std::span<const ChunkId> ids, Leased done) = 0;
  virtual void release(std::span<const ChunkId> ids) = 0;

  // Chunks that this node has fetched, for the others: stores the bytes, tells the hash, ends the lease, in this order. At most
  // so many bytes are on their way at once as the limit says; what is more goes to the next shared tier, or is not stored, and its lease
  // ends.
  struct Fetched {
    ChunkId id;
    PutRequest chunk;
  };
  virtual void publish(std::vector<Fetched> chunks) = 0;

  // Waits for what was published before.
  virtual void flush() = 0;
  // The same, and ends all leases. What is published later is dropped.
  virtual void close() = 0;

  // The tier that publish() writes to.
  virtual const Tier* tier() const = 0;

  // Whether it sees to the other shared tiers as well, at present: in which order depends on what the first one may evict.
  virtual bool fills_directory() { return false; }
};

}  // namespace alnair
