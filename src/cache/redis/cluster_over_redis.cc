// How a fetched chunk reaches the other nodes, so that this process may die between any two steps:
//
//  1. The value is set, under its content hash. Nobody asks for it yet who does not know the hash; a death here leaves a value
//     that the next fetcher finds in place.
//  2. The index entry is set, id -> content hash. From here on every node finds the chunk.
//  3. The lease is ended. Who gets it next looks at the index once more before it fetches, and finds the entry, because that came
//     first. After a death before this step the lease runs out by its deadline.
//
// A value that Redis had no room for, or an entry that was lost, costs the next node a fetch.
#include "cache/redis/cluster_over_redis.h"

#include <atomic>

namespace alnair {

ClusterOverRedis::ClusterOverRedis(std::shared_ptr<redis::Client> client, const RedisKeys& keys, std::shared_ptr<RedisTier> tier,
                           std::uint64_t limit_bytes, Leases::Timing timing)
    : tier_(std::move(tier)),
      index_(std::make_shared<ChunkIndex>(client, keys)),
      leases_(std::make_shared<Leases>(client, keys, timing)),
      limit_(limit_bytes) {}

void ClusterOverRedis::find_hashes(std::span<const ChunkId> ids, Found found) { index_->find(ids, std::move(found)); }

void ClusterOverRedis::acquire(std::span<const ChunkId> ids, Leased done) { leases_->acquire(ids, std::move(done)); }

void ClusterOverRedis::release(std::span<const ChunkId> ids) { leases_->release(ids); }

struct ClusterOverRedis::Publishing {
  std::vector<ChunkId> ids;
  std::vector<HashRecord> records;
  std::uint64_t bytes = 0;
  std::atomic<std::size_t> left;
  std::shared_ptr<OnTheWay> way;
  std::shared_ptr<Leases> leases;

  void end() {
    leases->release(ids);  // step 3
    const std::lock_guard lock(way->mutex);
    way->bytes -= bytes;
    --way->batches;
    way->changed.notify_all();
  }
};

void ClusterOverRedis::publish(std::vector<Fetched> chunks) {
  const auto publishing = std::make_shared<Publishing>();
  std::vector<PutRequest> puts;
  std::vector<ChunkId> refused;
  {
    const std::lock_guard lock(way_->mutex);
    for (Fetched& fetched : chunks) {
      const std::uint64_t size = fetched.chunk.bytes.size();
      if (way_->closed || (way_->bytes > 0 && way_->bytes + size > limit_)) {
        refused.push_back(fetched.id);
        continue;
      }
      way_->bytes += size;
      publishing->bytes += size;
      publishing->ids.push_back(fetched.id);
      publishing->records.push_back({fetched.id, fetched.chunk.hash});
      puts.push_back(std::move(fetched.chunk));
    }
    if (!puts.empty()) ++way_->batches;
  }
  leases_->release(refused);
  if (puts.empty()) return;
  publishing->left = puts.size();
  publishing->way = way_;
  publishing->leases = leases_;
  tier_->store(std::move(puts), [publishing, index = index_](std::size_t, PutOutcome) {  // step 1
    if (--publishing->left > 0) return;
    index->record(publishing->records, [publishing] { publishing->end(); });  // step 2
  });
}

void ClusterOverRedis::flush() {
  std::unique_lock lock(way_->mutex);
  way_->changed.wait(lock, [&] { return way_->batches == 0; });
}

void ClusterOverRedis::close() {
  {
    const std::lock_guard lock(way_->mutex);
    way_->closed = true;
  }
  flush();
  leases_->close();
}

}  // namespace alnair
