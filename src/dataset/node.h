// This process's share in the caches of its node: tiers, locks and catalog, for one set of CacheOptions.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/catalog/catalog.h"
#include "alnair/dataset/dataset.h"
#include "alnair/dataset/job_client.h"
#include "cache/directory/spill_tier.h"
#include "cache/lock_file.h"
#include "cache/memory/node_memory.h"
#include "cache/redis/flusher.h"
#include "cache/redis/use_teller.h"
#include "cache/tiered/cluster.h"
#include "cache/tiered/tiered_cache.h"
#include "dataset/look_ahead_seat.h"

namespace alnair {

struct Node {
  std::shared_ptr<NodeMemory> memory;  // null: none could be had (a warning said why)
  std::shared_ptr<Tier> disk;          // likewise; null with use_cache = false
  std::shared_ptr<Tier> redis;         // what all nodes share; null if none is named, or with use_cache = false
  std::shared_ptr<DurableTier> spill;  // likewise: directories
  std::shared_ptr<Catalog> catalog;    // likewise
  std::shared_ptr<Cluster> cluster;    // what nodes arrange by way of Redis; null without
  std::unique_ptr<TieredCache> cache;
  std::shared_ptr<UseTeller> uses;   // with redis and spill: what its jobs read
  std::unique_ptr<Flusher> flusher;  // likewise; behind the cache, whose end takes its lease
  std::array<std::shared_ptr<Tier>, 4> tiers() const { return {memory, disk, redis, spill}; }

  LockFile* locks = nullptr;    // node memory's; null without one
  std::string share_directory;  // for files that all processes of the node map; empty: none
  std::string memory_place, disk_place;  // NodeTier::place
  std::shared_ptr<LookAheadSeat> seat;  // null without node memory
};

// Options with the directories' defaults filled in (environment, XDG).
CacheOptions with_default_directories(CacheOptions options);

// The node for these options: made at first use, shared by the datasets of this process; a forked child makes its own.
// A tier that cannot be had is left out with a warning; so are catalog and directory tier where the file system of cache_dir does
// not answer for seconds. Throws CacheError for a directory that is not this user's, or a symbolic link; ConfigError or
// AccessError for a shared tier that cannot be meant, or that its configuration keeps us out of. Thread-safe.
std::shared_ptr<Node> open_node(const CacheOptions& options);

// How full the tiers are that belong to the nodes which this process has open. Waits for the disk, a few seconds at
// most. Thread-safe.
std::vector<NodeTier> usage_of_open_nodes();

// A node that keeps nothing itself, for a process that fills for others what all nodes share. `client` may be null, and
// `spill` name no directory. Throws as open_node().
std::shared_ptr<Node> open_sharing_node(std::shared_ptr<redis::Client> client, SpillOptions spill, const Flusher::Options& flusher,
                                        std::shared_ptr<Catalog> catalog);

}  // namespace alnair
