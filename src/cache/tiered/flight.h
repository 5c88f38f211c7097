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
};

// Only the thread that currently moves it along touches `hash` and `locked`; `waiters` are guarded by the cache's mutex.
struct Flight {
  ChunkRead read;
  std::shared_ptr<ChunkOrigin> origin;
  std::optional<ContentHash> hash;
  bool locked = false;
  std::chrono::steady_clock::time_point started;
  std::vector<Waiter> waiters;
};
using FlightPtr = std::shared_ptr<Flight>;
using Flights = std::vector<FlightPtr>;

}  // namespace alnair
