// The flusher: sees to it that what Redis evicts is in the shared directory first.
//
// It works where the servers' `maxmemory-policy` is volatile-ttl (guaranteed mode). There Redis evicts only keys with an expiry, the
// nearest one first. A chunk is stored without; so it cannot be evicted. When room will be needed, the flusher writes chunks to
// the directory and gives those that are durable there an expiry in the far future, which says in what order they may go.
// Under pressure writes are refused, reads go on.
//
// It runs wherever a process shares the namespace, and does its work where its lease is. Thread-safe. What a process leaves undone
// when it dies, the next one does: all state is in Redis and in the directory.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cache/directory/directory_tier.h"
#include "cache/redis/flush_pace.h"
#include "cache/redis/redis_tier.h"
#include "cache/tiered/cluster.h"

namespace alnair {

// In what order durable chunks may go: the smaller number first. Milliseconds since 1970 is recency; a count of uses is frequency; a
// large number minus the position of its next use is Belady's order. 0 to 2^52.
using FlushPriority = std::function<std::uint64_t(const ContentHash& hash, std::int64_t now_ms)>;

// The expiry (ms since 1970) of a priority: after the year 2100, so that nothing ever expires. Pure.
std::int64_t expiry_of(std::uint64_t priority);

class Flusher {
 public:
  struct Options {
    std::chrono::milliseconds frequency{5'000};  // between rounds
    FlushPace::Limits pace;
    FlushPriority priority;                      // empty: recency
  };
  // What one round did.
  struct Round {
    bool elected = false;     // the lease was had
    bool guaranteed = false;  // and the servers evict by volatile-ttl
    std::uint64_t dirty_bytes = 0, dirty_chunks = 0;      // that only Redis had, as far as was looked
    std::uint64_t written_bytes = 0, written_chunks = 0;  // to the directory
    std::uint64_t released_chunks = 0;                    // may be evicted now
  };

  Flusher(std::shared_ptr<redis::Client> client, RedisKeys keys, std::shared_ptr<RedisTier> tier,
          std::shared_ptr<DurableTier> directory, std::shared_ptr<Cluster> cluster, Options options);
  ~Flusher();  // ends the thread: waits for the batch that is being written

  // Starts the thread, if it does not run yet.
  void start();

  // One round, on this thread; `all`: whatever there is, however much room Redis has.
  Round run_once(bool all = false);

  // For DirectoryOptions::before_drop: what leaves the directory may not be evicted any more. Waits a few seconds at most.
  static bool keep_in_redis(redis::Client& client, const RedisKeys& keys, std::span<const ContentHash> hashes);

 private:
  bool vouch();
  bool elect();
  std::uint64_t flush_page(const std::vector<std::string>& keys, std::uint64_t budget, Round& round);
  void release(std::span<const ContentHash> hashes, Round& round);
  void run();

  const std::shared_ptr<redis::Client> client_;
  const RedisKeys keys_;
  const std::shared_ptr<RedisTier> tier_;
  const std::shared_ptr<DurableTier> directory_;
  const std::shared_ptr<Cluster> cluster_;
  const Options options_;
  FlushPace pace_;
  std::string vouched_;  // the directory that the namespace is known to record
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace alnair
