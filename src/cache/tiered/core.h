// What TieredCache is made of; its header says how a chunk travels. Steps 1 to 3 are in core.cc, step 4 in core_landing.cc.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/tiered/filler.h"
#include "cache/tiered/flight.h"
#include "cache/tiered/landing.h"
#include "cache/tiered/tiered_cache.h"

namespace alnair {

class TieredCache::Core : public std::enable_shared_from_this<Core> {
 public:
  explicit Core(Options options);

  // Step 1.
  void fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done);

  // Ends the threads but for the filler's. To be called before the last share in this is given up: what is in flight holds one.
  void stop();

  const Options& options() const { return options_; }
  Filler& filler() { return filler_; }

 private:
  // Takes the flights out of `unknown` whose hashes the catalog knows: read in an earlier life of this node.
  static Flights look_up(ChunkOrigin& origin, Flights& unknown);

  // Step 2: asks the lower tiers from `tier` on; what none of them has is claimed.
  void ask_lower(std::size_t tier, Flights flights);

  // Step 3: who gets the lock fetches; the others wait for it.
  void claim(Flights flights);
  bool try_lock(Flight& flight);
  void unlock(Flight& flight);
  // Whether the chunk's hash is known by now.
  static bool look_again(Flight& flight);
  // Lands the flights whose chunk is in node memory; the others are appended to `missed`.
  void settle_from_memory(Flights flights, Flights& missed);
  void wait_for_others(Flights flights);
  void poll();
  void look_at(Flights flights);

  // Step 4. Neighbouring chunks of an object travel in one request.
  void fetch_from_source(Flights flights);
  void fetched(Flights& group, ReadResult result);
  // On a landing thread: the rest of step 4, and of step 2 for a chunk that a lower tier had.
  void take(std::span<Arrival> arrivals);
  void keep_in_memory(std::span<Arrival> arrivals);
  // Ends flights: from here on, who asks for a chunk starts a new one, and should know the hash by then.
  void land(std::span<const Arrival> arrivals);
  static void tell_hashes(std::span<const Arrival> arrivals);
  void fail(const Flights& flights, const std::exception_ptr& error);
  std::vector<std::vector<Waiter>> close(std::span<const Arrival> arrivals);

  const Options options_;
  Filler filler_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<ChunkId, FlightPtr> flights_;
  Flights waiting_;  // for another process
  bool stopping_ = false;
  std::thread poller_;
  Landing landing_;  // last: its threads use the rest
};

}  // namespace alnair
