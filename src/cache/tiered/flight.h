// A chunk on its way to node memory, and those who wait for it.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "cache/tiered/tiered_cache.h"

namespace alnair {

struct Waiter {
  std::shared_ptr<const TieredCache::Done> done;
  std::size_t index;
  std::shared_ptr<ChunkOrigin> origin;
  ChunkRead read;
  DatasetTag ahead;  // whose look-ahead it is; 0: a reader
};

// Only the thread that currently moves it along touches the rest; `waiters` are guarded by the cache's mutex.
struct Flight {
  ChunkRead read;
  std::shared_ptr<ChunkOrigin> origin;
  std::optional<ContentHash> hash;
  bool locked = false;  // this process holds the chunk's lock on the node
  bool leased = false;  // and its lease in the cluster
  std::chrono::steady_clock::time_point started;
  std::chrono::steady_clock::time_point next_look{};  // while another node fetches it: when to ask Redis again
  std::vector<Waiter> waiters;
};

// Whose look-ahead it is, and nobody's read; else 0. The cache's mutex is held.
inline DatasetTag ahead_of(const Flight& flight) {
  DatasetTag ahead = 0;
  for (const Waiter& waiter : flight.waiters) {
    if (waiter.ahead == 0) return 0;
    ahead = waiter.ahead;
  }
  return ahead;
}

using FlightPtr = std::shared_ptr<Flight>;
using Flights = std::vector<FlightPtr>;

}  // namespace alnair
