// How a fetched chunk reaches the other nodes, so that this process may die between any two steps:
//
//  1. The value is set, under its content hash. Nobody asks for it yet who does not know the hash; a death here leaves a value
//     that the next fetcher finds in place.
//     Where Redis might evict it, it is durable in the shared directory before that; and once it is set, that is looked at again: a host in
//     need of room may have dropped it in between, and deleted the key that was not there yet. Then it is deleted now.
//  2. The index entry is set, id -> content hash. From here on every node finds the chunk.
//  3. The lease is ended. Who gets it next looks at the index once more before it fetches, and finds the entry, because that came
//     first. After a death before this step the lease runs out by its deadline.
//
// What comes faster than Redis takes it goes to the directory instead, if there is one. What neither has taken is not told of, and costs
// the next node a fetch.
#include "cache/redis/cluster_over_redis.h"

#include <atomic>
#include <numeric>

#include "cache/redis/flush_policy.h"
#include "core/metrics.h"
#include "core/wall_clock.h"

namespace alnair {

ClusterOverRedis::ClusterOverRedis(std::shared_ptr<redis::Client> client, const RedisKeys& keys, std::shared_ptr<RedisTier> tier,
                                   std::uint64_t limit_bytes, Leases::Timing timing, std::shared_ptr<DurableTier> directory)
    : tier_(std::move(tier)),
      index_(std::make_shared<ChunkIndex>(client, keys)),
      leases_(std::make_shared<Leases>(client, keys, timing)),
      limit_(limit_bytes),
      watch_(std::make_shared<FillWatch>(client, keys, directory != nullptr)),
      writer_(directory == nullptr ? nullptr
                                   : std::make_unique<DurableWriter>(directory, [tier = tier_](std::span<const ContentHash> lost) {
                                       for (const ContentHash& hash : lost) tier->erase(hash);
                                     })) {
  watch_->rule();  // asks for the first time
}

void ClusterOverRedis::find_hashes(std::span<const ChunkId> ids, Found found) { index_->find(ids, std::move(found)); }

void ClusterOverRedis::acquire(std::span<const ChunkId> ids, Leased done) { leases_->acquire(ids, std::move(done)); }

void ClusterOverRedis::release(std::span<const ChunkId> ids) { leases_->release(ids); }

bool ClusterOverRedis::fills_directory() {
  return writer_ != nullptr && watch_->rule().order != FillRule::Order::kSideBySide;
}

struct ClusterOverRedis::Publishing {
  std::vector<Fetched> chunks;
  std::vector<char> kept;  // for each, whether others find it by its hash
  std::uint64_t bytes = 0;
  std::uint64_t OnTheWay::*counted = nullptr;  // where `bytes` are
  std::atomic<std::size_t> left;
  FillRule rule;
};

void ClusterOverRedis::publish(std::vector<Fetched> chunks) {
  std::vector<Fetched> to_redis, past_it;
  std::vector<ChunkId> refused;
  std::uint64_t bytes = 0, beside_bytes = 0;
  {
    const std::lock_guard lock(way_->mutex);
    const auto takes = [&](std::uint64_t OnTheWay::*counted, std::uint64_t size) {
      std::uint64_t& on_the_way = way_.get()->*counted;
      if (on_the_way > 0 && on_the_way + size > limit_) return false;
      on_the_way += size;
      return true;
    };
    for (Fetched& fetched : chunks) {
      const std::uint64_t size = fetched.chunk.bytes.size();
      if (way_->closed) {
        refused.push_back(fetched.id);
      } else if (takes(&OnTheWay::bytes, size)) {
        bytes += size;
        to_redis.push_back(std::move(fetched));
      } else if (writer_ != nullptr && takes(&OnTheWay::beside_bytes, size)) {
        beside_bytes += size;
        past_it.push_back(std::move(fetched));
      } else {
        refused.push_back(fetched.id);
      }
    }
    way_->batches += (to_redis.empty() ? 0u : 1u) + (past_it.empty() ? 0u : 1u);
  }
  leases_->release(refused);
  const auto all_of = [](const PublishingPtr& publishing) {
    std::vector<std::size_t> all(publishing->chunks.size());
    std::iota(all.begin(), all.end(), 0);
    return all;
  };
  if (!to_redis.empty()) {
    const auto publishing = begin(std::move(to_redis), watch_->rule(bytes), bytes, &OnTheWay::bytes);
    if (publishing->rule.order == FillRule::Order::kDirectoryFirst)
      write(publishing, all_of(publishing), true);
    else
      store(publishing, all_of(publishing));
  }
  if (!past_it.empty()) {
    const auto publishing = begin(std::move(past_it), watch_->rule(), beside_bytes, &OnTheWay::beside_bytes);
    if (publishing->rule.order == FillRule::Order::kSideBySide)
      tell(publishing);
    else
      write(publishing, all_of(publishing), false);
  }
}

ClusterOverRedis::PublishingPtr ClusterOverRedis::begin(std::vector<Fetched> chunks, FillRule rule, std::uint64_t bytes,
                                                        std::uint64_t OnTheWay::*counted) {
  const auto publishing = std::make_shared<Publishing>();
  // Side by side, the directory is somebody else's to fill, and will have the chunk whatever Redis says.
  publishing->kept.assign(chunks.size(), writer_ != nullptr && rule.order == FillRule::Order::kSideBySide);
  publishing->chunks = std::move(chunks);
  publishing->rule = rule;
  publishing->bytes = bytes;
  publishing->counted = counted;
  return publishing;
}

// Step 1.
void ClusterOverRedis::store(const PublishingPtr& publishing, std::vector<std::size_t> indices) {
  if (publishing->rule.full) metrics().add(TierId::kRedis, TierCounter::kRefused, indices.size());
  if (publishing->rule.full || indices.empty()) return tell(publishing);
  publishing->left = indices.size();
  std::vector<PutRequest> puts;
  for (const std::size_t i : indices) puts.push_back(publishing->chunks[i].chunk);
  const std::int64_t expiry =
      publishing->rule.expiring ? expiry_of(static_cast<std::uint64_t>(milliseconds_now())) : 0;
  const auto stored = std::make_shared<std::vector<char>>(publishing->chunks.size());
  const auto tier = tier_;  // this object may be gone when store() returns
  tier->store(
      std::move(puts),
      [this, publishing, indices, stored](std::size_t n, PutOutcome outcome) {
        (*stored)[indices[n]] = outcome != PutOutcome::kRefused;
        if (--publishing->left > 0) return;
        std::vector<ContentHash> again;
        std::vector<std::size_t> without;
        for (const std::size_t i : indices) {
          if (!(*stored)[i]) {
            without.push_back(i);
          } else {
            publishing->kept[i] = true;
            again.push_back(publishing->chunks[i].chunk.hash);
          }
        }
        if (publishing->rule.order == FillRule::Order::kDirectoryFirst) writer_->recheck(again);
        if (publishing->rule.order == FillRule::Order::kRedisFirst && !without.empty())
          write(publishing, std::move(without), false);
        else
          tell(publishing);
      },
      expiry);
}

void ClusterOverRedis::write(const PublishingPtr& publishing, std::vector<std::size_t> indices, bool then_store) {
  std::vector<PutRequest> puts;
  for (const std::size_t i : indices) puts.push_back(publishing->chunks[i].chunk);
  writer_->write(std::move(puts), [this, publishing, indices, then_store](const std::vector<char>& durable) {
    std::vector<std::size_t> there;
    for (std::size_t n = 0; n < indices.size(); ++n) {
      if (!durable[n]) continue;
      publishing->kept[indices[n]] = true;
      there.push_back(indices[n]);
    }
    then_store ? store(publishing, std::move(there)) : tell(publishing);
  });
}

void ClusterOverRedis::tell(const PublishingPtr& publishing) {
  std::vector<HashRecord> records;
  for (std::size_t i = 0; i < publishing->chunks.size(); ++i)
    if (publishing->kept[i]) records.push_back({publishing->chunks[i].id, publishing->chunks[i].chunk.hash});
  const auto end = [publishing, leases = leases_, way = way_] {
    std::vector<ChunkId> ids;
    for (const Fetched& fetched : publishing->chunks) ids.push_back(fetched.id);
    leases->release(ids);  // step 3
    const std::lock_guard lock(way->mutex);
    way.get()->*publishing->counted -= publishing->bytes;
    --way->batches;
    way->changed.notify_all();
  };
  const auto index = index_;
  records.empty() ? end() : index->record(records, end);  // step 2
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
  if (writer_ != nullptr) writer_->close();
  leases_->close();
}

}  // namespace alnair
