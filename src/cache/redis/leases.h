// Leases: who of all nodes fetches a chunk. A lease is named by the chunk's id, and lies as a field of one of 256 hashes.
//
// Its value is a token and a deadline by the server's clock; it has no Redis expiry, because under `volatile-ttl` what has one is
// evicted first. The holder moves the deadline on while it lives. Who finds a deadline past takes the lease over, in one script,
// so that only one does. What killed processes leave is swept up by those that live.
//
// A lease saves fetches, no more: it may be lost with its server, or held twice after a long pause of its holder.
//
// Thread-safe; waits for nothing but in close(). A thread is started by the first lease.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cache/redis/redis_keys.h"
#include "cache/tiered/cluster.h"
#include "redis/client.h"

namespace alnair {

class Leases {
 public:
  struct Timing {
    std::chrono::milliseconds lifetime{5'000};  // without a sign of life from the holder
    std::chrono::milliseconds sweep{60'000};    // between sweeps, each by every process that has held a lease
  };

  Leases(std::shared_ptr<redis::Client> client, RedisKeys keys) : Leases(std::move(client), std::move(keys), Timing()) {}
  Leases(std::shared_ptr<redis::Client> client, RedisKeys keys, Timing timing);
  ~Leases() { close(); }

  // `done` once, with one outcome for each id, from any thread. What this process holds already is granted again.
  // kUnavailable: Redis is gone, full, or has no scripts.
  void acquire(std::span<const ChunkId> ids, Cluster::Leased done);

  // Gives back what is held; other ids do not matter.
  void release(std::span<const ChunkId> ids);

  // Removes what nobody holds any more; `done` once.
  void sweep(std::function<void()> done);

  // Gives back what is held, and waits for that, for a second at most. Not to be called from a callback.
  void close();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace alnair
