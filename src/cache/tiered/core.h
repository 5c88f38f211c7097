// What TieredCache is made of; its header says how a chunk travels. Steps 1 to 3 are in core.cc, what is done
// in a cluster in core_cluster.cc, step 4 in core_landing.cc.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/tiered/cluster.h"
#include "cache/tiered/filler.h"
#include "cache/tiered/flight.h"
#include "cache/tiered/landing.h"
#include "cache/tiered/overflow.h"
#include "cache/tiered/tiered_cache.h"

namespace alnair {

class TieredCache::Core : public std::enable_shared_from_this<Core> {
 public:
  explicit Core(Options options);

  // Step 1.
  void fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done, DatasetTag ahead);

  void flush();

  // The loop has read them.
  void consume(std::span<const ContentHash> hashes);

  // Ends the threads but for the fillers'. To be called before the last share in this is given up: what is in flight holds one.
  void stop();

  const Options& options() const { return options_; }
  Filler& filler() { return filler_; }

 private:
  // Takes the flights out of `unknown` whose hashes the catalog knows: read in an earlier life of this node.
  static Flights look_up(ChunkOrigin& origin, Flights& unknown);

  // Lands what is in this process only: node memory had no room for it, or it is on its way to a tier. Returns the others.
  Flights settle_from_process(Flights flights);

  using Continue = std::function<void(Flights)>;

  // Step 2: asks the tiers from `index` on, the lower ones and then the shared ones. `missed` gets what none of them has.
  void ask(std::size_t index, Flights flights, Continue missed);
  Tier& tier_at(std::size_t index) const;
  // Whether Cluster::publish() fills it; the shared filler fills the others that are shared.
  bool is_published(const Tier& tier) const { return options_.cluster != nullptr && options_.cluster->tier() == &tier; }
  std::vector<std::shared_ptr<Tier>> unpublished() const;
  Filler::Options filling(std::vector<std::shared_ptr<Tier>> tiers) const;

  // Step 3: who gets the lock fetches; the others wait for it.
  void claim(Flights flights);
  // It has waited so long that it stops believing in who holds it up (who may be stopped with SIGSTOP, holding locks).
  static bool is_impatient(const Flight& flight);
  LockFile* lock_file_of(const Flight& flight) const;  // null without locks
  bool try_lock(Flight& flight);
  void unlock(Flight& flight);
  // Whether the chunk's hash is known by now.
  static bool look_again(Flight& flight);
  // Lands the flights whose chunk is in node memory; the others are appended to `missed`.
  void settle_from_memory(Flights flights, Flights& missed);
  void wait_for_others(Flights flights, Flights& where);  // waiting_ or abroad_
  void poll();
  void look_at(Flights flights);

  // Ends look-ahead for what a process of the node has brought since the loop drew it: it has been read, and may be gone again.
  void drop_overtaken(Flights& flights);

  // Step 3 in a cluster; without one it fetches.
  void elect(Flights flights);
  void lease(Flights flights);
  // Lands what other nodes have stored, and hands the rest to `missed`.
  void find_abroad(Flights flights, Continue missed);

  // Step 4. Neighbouring chunks of an object travel in one request.
  void fetch_from_source(Flights flights);
  void fetched(Flights& group, ReadResult result);
  // On a landing thread: the rest of step 4, and of step 2 for a chunk that a lower tier had.
  // Returns whether more are about to come.
  bool take(std::span<Arrival> arrivals);
  void keep_in_memory(std::span<Arrival> arrivals);
  // Of an arrival: whose look-ahead it is (ahead_of), and whether it is read once and then no more.
  struct Passing {
    DatasetTag ahead = 0;
    bool once = false;
  };
  std::vector<Passing> look_ahead_of(std::span<const Arrival> arrivals);
  // Whether this process needs no room of node memory for it.
  bool stays_in_process(const Arrival& arrival, const Passing& passing);
  void fill_other_tiers(std::span<const Arrival> arrivals);
  // Ends flights: from here on, who asks for a chunk starts a new one, and should know the hash by then.
  void land(std::span<const Arrival> arrivals);
  static void tell_hashes(std::span<const Arrival> arrivals);
  void fail(const Flights& flights, const std::exception_ptr& error);
  std::vector<std::vector<Waiter>> close(std::span<const Arrival> arrivals);

  const Options options_;
  Filler filler_;         // of the node's own tiers
  Filler shared_filler_;  // nobody waits for it: what it has no room for, other nodes fetch
  Overflow overflow_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<ChunkId, FlightPtr> flights_;
  Flights waiting_;  // for another process of the node
  Flights abroad_;   // for another node
  bool stopping_ = false;
  std::thread poller_;
  Landing landing_;  // last: its threads use the rest
};

}  // namespace alnair
