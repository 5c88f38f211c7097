// The cluster's arrangements (cache/tiered/cluster.h) by way of Redis.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "cache/redis/chunk_index.h"
#include "cache/redis/durable_writer.h"
#include "cache/redis/fill_watch.h"
#include "cache/redis/leases.h"
#include "cache/redis/redis_tier.h"
#include "cache/tiered/cluster.h"

namespace alnair {

class ClusterOverRedis : public Cluster {
 public:
  // At most `limit_bytes` of what was published are on their way to Redis. With a shared directory, publish() sees to it that what Redis
  // may evict is there first (fill_rule.h); and what Redis is too slow for goes there instead, at most `limit_bytes` of it at a time.
  ClusterOverRedis(std::shared_ptr<redis::Client> client, const RedisKeys& keys, std::shared_ptr<RedisTier> tier,
                   std::uint64_t limit_bytes = 256ull << 20, Leases::Timing timing = {},
                   std::shared_ptr<DurableTier> directory = nullptr);
  ~ClusterOverRedis() override { close(); }

  void find_hashes(std::span<const ChunkId> ids, Found found) override;
  void acquire(std::span<const ChunkId> ids, Leased done) override;
  void release(std::span<const ChunkId> ids) override;
  void publish(std::vector<Fetched> chunks) override;
  void flush() override;
  void close() override;
  const Tier* tier() const override { return tier_.get(); }
  bool fills_directory() override;

 private:
  struct Publishing;
  using PublishingPtr = std::shared_ptr<Publishing>;
  // Shared with what is on its way.
  struct OnTheWay {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t bytes = 0;        // to Redis
    std::uint64_t beside_bytes = 0;  // past it
    std::size_t batches = 0;
    bool closed = false;
  };

  PublishingPtr begin(std::vector<Fetched> chunks, FillRule rule, std::uint64_t bytes, std::uint64_t OnTheWay::*counted);
  void store(const PublishingPtr& publishing, std::vector<std::size_t> indices);
  void write(const PublishingPtr& publishing, std::vector<std::size_t> indices, bool then_store);
  void tell(const PublishingPtr& publishing);

  const std::shared_ptr<RedisTier> tier_;
  const std::shared_ptr<ChunkIndex> index_;
  const std::shared_ptr<Leases> leases_;
  const std::uint64_t limit_;
  const std::shared_ptr<FillWatch> watch_;
  const std::shared_ptr<OnTheWay> way_ = std::make_shared<OnTheWay>();
  const std::unique_ptr<DurableWriter> writer_;  // null: there is no directory; last: its thread uses the rest
};

}  // namespace alnair
