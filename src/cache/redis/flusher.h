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
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "cache/directory/directory_tier.h"
#include "cache/lock_file.h"
#include "cache/redis/flush_pace.h"
#include "cache/redis/flush_policy.h"
#include "cache/redis/redis_tier.h"
#include "cache/tiered/cluster.h"

namespace alnair {

class Flusher {
 public:
  struct Options {
    std::chrono::milliseconds frequency{5'000};  // between rounds
    FlushPace::Limits pace;
    std::shared_ptr<FlushPolicy> policy;         // null: what was released longest ago goes first
  };
  // What one round did.
  struct Round {
    bool elected = false;     // the lease was had
    bool guaranteed = false;  // and the servers evict by volatile-ttl
    std::uint64_t dirty_bytes = 0, dirty_chunks = 0;      // that only Redis had, as far as was looked
    std::uint64_t written_bytes = 0, written_chunks = 0;  // to the directory
    std::uint64_t refused_chunks = 0;                     // by the directory
    std::uint64_t released_chunks = 0;                    // may be evicted now
    std::uint64_t exposed_chunks = 0;                     // might have been evicted, and the directory did not have them; no more
    bool whole = false;                                   // every chunk was looked at
    double seconds = 0;                                   // that writing and looking took
  };

  Flusher(std::shared_ptr<redis::Client> client, RedisKeys keys, std::shared_ptr<RedisTier> tier,
          std::shared_ptr<DurableTier> directory, std::shared_ptr<Cluster> cluster, Options options);
  ~Flusher();  // ends the thread: waits for the batch that is being written

  // Starts the thread, if it does not run yet; whether it runs now. With `locks`, in one process of the node at a time: `name` is what
  // is flushed. Where another one has it, a later call may start it.
  bool start(LockFile* locks = nullptr, const std::string& name = {});

  // What the thread's last round did.
  Round last_round() const;

  // One round, on this thread; `all`: whatever there is, however much room Redis has.
  Round run_once(bool all = false);

  // For DirectoryOptions::before_drop: of what leaves the directory, Redis has no copy any more that it might evict: it is made
  // persistent, or deleted where that does not protect it. Waits a few seconds at most.
  static bool keep_in_redis(redis::Client& client, const RedisKeys& keys, std::span<const ContentHash> hashes);

 private:
  enum class Then { kRelease, kDelete };
  // A chunk that only Redis has.
  struct Dirty {
    ContentHash hash;
    std::uint64_t bytes = 0;
    std::int64_t written_s = 0;  // since 1970, by its writer's clock; 0: not known
  };
  // What a look at all keys has counted of them.
  struct Count {
    std::uint64_t chunks = 0, bytes = 0;
    std::int64_t oldest_s = 0;  // 0: not known
    void add(const Dirty& dirty);
  };
  // One walk over the keys, page by page.
  struct Walk {
    Round& round;
    std::uint64_t budget = 0;  // bytes that may still be written
    Then then = Then::kRelease;
    Count left = {};                              // what it leaves
    std::unordered_set<std::uint64_t> seen = {};  // keys may be shown twice
  };

  bool vouch(Round& round);
  bool make_room(Round& round);
  bool elect();
  void flush(const redis::ServerFacts& facts, bool all, Round& round);
  bool count_is_due(const redis::ServerFacts& facts, double now) const;
  void flush_page(const std::vector<std::string>& keys, Walk& walk);
  std::unordered_set<ContentHash> write(std::span<const Dirty> dirty, Walk& walk);
  std::vector<ContentHash> take_back(std::span<const ContentHash> evictable);
  std::vector<Dirty> measure(std::span<const ContentHash> hashes);
  std::vector<PutRequest> read(std::span<const ContentHash> hashes);
  std::unordered_set<ContentHash> release(std::span<const ContentHash> hashes, Round& round, Then then);
  void count_evictions(const redis::ServerFacts& facts, bool vouched);
  void tell_dirty(const redis::ServerFacts& facts, const Round& round);
  void run();

  const std::shared_ptr<redis::Client> client_;
  const RedisKeys keys_;
  const std::shared_ptr<RedisTier> tier_;
  const std::shared_ptr<DurableTier> directory_;
  const std::shared_ptr<Cluster> cluster_;
  const Options options_;
  FlushPace pace_;
  std::string vouched_;  // the directory that the namespace is known to record
  // What the last walk over all keys counted, less what was released since.
  struct Counted {
    double at = 0, took = 0;        // when it began, and for how long it went on
    Count left;
    std::uint64_t persistent = 0;   // keys without an expiry, the index's and others' among them
    std::uint64_t evicted = 0;      // as ServerFacts has it
    std::uint64_t mean_bytes = 0;   // of a key
  };
  std::optional<Counted> counted_;
  // At the last round: evictions so far, and whether the guarantee held. And how many have been seen since all keys were looked at.
  std::optional<std::uint64_t> evicted_;
  bool held_ = false;
  std::uint64_t evicted_since_look_ = 0;
  LockFile::Guard alone_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Round last_round_;       // guarded by mutex_, as what follows
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace alnair
