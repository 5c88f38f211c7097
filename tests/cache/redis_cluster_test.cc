// What nodes arrange through Redis: the index, the leases, and who fetches.
#include "cache/redis/cluster_over_redis.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <set>
#include <thread>

#include "cache/directory/spill_tier.h"
#include "cache/tier_contract.h"
#include "support/redis_servers.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace std::chrono_literals;

ChunkId id_of(std::uint64_t number) {
  Hasher hasher;
  hasher.update_field(number);
  const ContentHash hash = hasher.finish();
  ChunkId id;
  std::copy_n(hash.bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

ContentHash hash_of(std::uint64_t number) {
  Hasher hasher;
  hasher.update_field(number);
  hasher.update_field("content");
  return hasher.finish();
}

// Calls `start` with a callback, and waits for what that is given.
template <typename Value, typename Start>
Value wait_for(const Start& start) {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<Value> value;
  };
  const auto waiting = std::make_shared<Waiting>();
  start([waiting](Value value) {
    const std::lock_guard lock(waiting->mutex);
    EXPECT_FALSE(waiting->value.has_value());
    waiting->value = std::move(value);
    waiting->done.notify_all();
  });
  std::unique_lock lock(waiting->mutex);
  EXPECT_TRUE(waiting->done.wait_for(lock, 60s, [&] { return waiting->value.has_value(); }));
  return *waiting->value;
}

class RedisIndexTest : public ::testing::Test {
 protected:
  std::vector<std::optional<ContentHash>> find(const std::vector<ChunkId>& ids) {
    return wait_for<std::vector<std::optional<ContentHash>>>([&](auto done) { index_.find(ids, done); });
  }
  void record(const std::vector<HashRecord>& records) {
    wait_for<int>([&](auto done) { index_.record(records, [done] { done(1); }); });
  }

  RedisServer server_;
  const RedisKeys keys_{"test", "default"};
  const std::shared_ptr<redis::Client> client_ = redis::open(server_.url());
  ChunkIndex index_{client_, keys_};
};

TEST_F(RedisIndexTest, TellsWhatWasTold) {
  EXPECT_EQ(find({id_of(1), id_of(2)}), (std::vector<std::optional<ContentHash>>{std::nullopt, std::nullopt}));
  record({{id_of(1), hash_of(1)}, {id_of(2), hash_of(2)}});
  record({{id_of(2), hash_of(3)}});  // the last one counts
  EXPECT_EQ(find({id_of(2), id_of(7), id_of(1), id_of(2)}),
            (std::vector<std::optional<ContentHash>>{hash_of(3), std::nullopt, hash_of(1), hash_of(3)}));
  EXPECT_TRUE(find({}).empty());
  record({});
}

TEST_F(RedisIndexTest, ADamagedOrMisplacedEntryIsUnknown) {
  record({{id_of(1), hash_of(1)}, {id_of(2), hash_of(2)}});
  const std::string one = keys_.index_bucket(id_of(1)), two = keys_.index_bucket(id_of(2));
  const auto field_in = [&](const std::string& bucket) {
    return std::string(server_.command({"HKEYS", bucket}).elements.at(0).text());
  };
  const std::string field_one = field_in(one), field_two = field_in(two);
  const std::string good = server_.text({"HGET", one, field_one}), other = server_.text({"HGET", two, field_two});
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] ^= 0x10;
    server_.command({"HSET", one, field_one, bad});
    EXPECT_FALSE(find({id_of(1)}).at(0).has_value()) << byte;
  }
  for (const std::string& bad : {other, good.substr(1), good + "x", std::string()}) {
    server_.command({"HSET", one, field_one, bad});
    EXPECT_FALSE(find({id_of(1)}).at(0).has_value());
  }
  server_.command({"DEL", one});
  server_.command({"SET", one, "no hash at all"});
  EXPECT_FALSE(find({id_of(1)}).at(0).has_value());
  EXPECT_EQ(find({id_of(2)}).at(0), hash_of(2));
}

TEST_F(RedisIndexTest, TakesAtMost64BytesAChunk) {
  constexpr std::uint64_t kChunks = 120'000;
  const auto used = [&] { return client_->check().used_memory; };
  find({id_of(0)});
  const std::uint64_t before = used();
  for (std::uint64_t begin = 0; begin < kChunks; begin += 20'000) {
    std::vector<HashRecord> records;
    for (std::uint64_t i = begin; i < begin + 20'000; ++i) records.push_back({id_of(i), hash_of(i)});
    record(records);
  }
  const double bytes = static_cast<double>(used() - before) / static_cast<double>(kChunks);
  RecordProperty("bytes_a_chunk", std::to_string(bytes));
  EXPECT_LE(bytes, 64.0);
  EXPECT_EQ(find({id_of(77'777)}).at(0), hash_of(77'777));
}

class RedisLeasesTest : public ::testing::Test {
 protected:
  static LeaseOutcome acquire(Leases& leases, std::uint64_t number) {
    const ChunkId id = id_of(number);
    return wait_for<std::vector<LeaseOutcome>>([&](auto done) { leases.acquire({&id, 1}, done); }).at(0);
  }
  static void release(Leases& leases, std::uint64_t number) {
    const ChunkId id = id_of(number);
    leases.release({&id, 1});
  }
  std::size_t left_behind() {
    std::size_t fields = 0;
    for (std::uint32_t bucket = 0; bucket < RedisKeys::kLeaseBuckets; ++bucket)
      fields += static_cast<std::size_t>(server_.command({"HLEN", keys_.lease_bucket(bucket)}).integer);
    return fields;
  }
  std::unique_ptr<Leases> open(std::chrono::milliseconds lifetime = 60s) {
    return std::make_unique<Leases>(redis::open(server_.url()), keys_, Leases::Timing{lifetime, 60s});
  }

  RedisServer server_;
  const RedisKeys keys_{"test", "default"};
};

TEST_F(RedisLeasesTest, OneOfTwoGetsItUntilItIsReleased) {
  const auto one = open(), two = open();
  EXPECT_EQ(acquire(*one, 1), LeaseOutcome::kGranted);
  EXPECT_EQ(acquire(*two, 1), LeaseOutcome::kHeld);
  EXPECT_EQ(acquire(*one, 1), LeaseOutcome::kGranted) << "again";
  EXPECT_EQ(acquire(*two, 2), LeaseOutcome::kGranted);
  release(*two, 1);  // not its own
  EXPECT_EQ(acquire(*two, 1), LeaseOutcome::kHeld);
  release(*one, 1);
  EXPECT_TRUE(eventually([&] { return acquire(*two, 1) == LeaseOutcome::kGranted; }));
}

TEST_F(RedisLeasesTest, OfManyWhoAskAtOnceOneGetsIt) {
  std::vector<std::unique_ptr<Leases>> all;
  for (int i = 0; i < 8; ++i) all.push_back(open());
  std::vector<ChunkId> ids;
  for (std::uint64_t i = 0; i < 200; ++i) ids.push_back(id_of(i));
  std::vector<int> granted(ids.size());
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (const auto& leases : all)
    threads.emplace_back([&] {
      const auto outcomes = wait_for<std::vector<LeaseOutcome>>([&](auto done) { leases->acquire(ids, done); });
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < ids.size(); ++i) granted[i] += outcomes[i] == LeaseOutcome::kGranted;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(granted, ::testing::Each(1));
}

TEST_F(RedisLeasesTest, ALiveHolderKeepsItBeyondItsLifetime) {
  const auto one = open(6s), two = open(6s);
  EXPECT_EQ(acquire(*one, 1), LeaseOutcome::kGranted);
  const auto until = std::chrono::steady_clock::now() + 8s;
  while (std::chrono::steady_clock::now() < until) {
    ASSERT_EQ(acquire(*two, 1), LeaseOutcome::kHeld);
    std::this_thread::sleep_for(50ms);
  }
}

TEST_F(RedisLeasesTest, WhatAKilledHolderLeavesIsTakenOverAndSweptUp) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    const auto leases = open(500ms);
    for (std::uint64_t i = 0; i < 50; ++i) acquire(*leases, i);
    (void)!write(ready[1], "x", 1);
    pause();
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  EXPECT_EQ(left_behind(), 50u);
  const auto leases = open(500ms);
  EXPECT_TRUE(eventually([&] { return acquire(*leases, 1) == LeaseOutcome::kGranted; }));
  EXPECT_TRUE(eventually([&] {
    wait_for<int>([&](auto done) { leases->sweep([done] { done(1); }); });
    return acquire(*leases, 1) == LeaseOutcome::kGranted && left_behind() == 1;
  }));
  leases->close();
  EXPECT_TRUE(eventually([&] { return left_behind() == 0; }));
  close(ready[0]);
  close(ready[1]);
}

TEST_F(RedisLeasesTest, ALeaseHasNoExpiryAndNonsenseInItsPlaceDoesNotLast) {
  const auto leases = open();
  EXPECT_EQ(acquire(*leases, 1), LeaseOutcome::kGranted);
  const std::string bucket = keys_.lease_bucket(id_of(1));
  EXPECT_EQ(server_.command({"TTL", bucket}).integer, -1);
  const ChunkId other = id_of(2);
  const std::string field(reinterpret_cast<const char*>(other.bytes.data()), other.bytes.size());
  for (const char* nonsense : {"", "gibberish", "00ff 99999999999999999", "00ff 12"}) {
    server_.command({"HSET", keys_.lease_bucket(other), field, nonsense});
    EXPECT_EQ(acquire(*leases, 2), LeaseOutcome::kGranted) << nonsense;
  }
}

TEST_F(RedisLeasesTest, WithoutScriptsOrAServerThereAreNone) {
  server_.command({"ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-eval", "-evalsha", "-script"});
  Leases limited(redis::open("redis://limited:secret@" + server_.address()), keys_);
  EXPECT_EQ(acquire(limited, 1), LeaseOutcome::kUnavailable);
  Leases gone(redis::open(server_.url() + "?timeout_ms=1000&deadline_ms=3000"), keys_);
  server_.kill();
  EXPECT_EQ(acquire(gone, 1), LeaseOutcome::kUnavailable);
}

TEST(RedisClusterTest, WhatIsPublishedIsFoundByOthersAndItsLeaseEnds) {
  RedisServer server;
  const RedisKeys keys("test", "default");
  const auto open = [&] {
    const auto client = redis::open(server.url());
    return std::make_unique<ClusterOverRedis>(client, keys, std::make_shared<RedisTier>(client, keys));
  };
  const auto one = open(), two = open();
  const Chunk chunk = make_chunk(1, 100'000);
  const ChunkId id = id_of(1);
  const auto acquire = [&](ClusterOverRedis& cluster) {
    return wait_for<std::vector<LeaseOutcome>>([&](auto done) { cluster.acquire({&id, 1}, done); }).at(0);
  };
  EXPECT_EQ(acquire(*one), LeaseOutcome::kGranted);
  EXPECT_EQ(acquire(*two), LeaseOutcome::kHeld);
  one->publish({{id, {.hash = chunk.hash, .bytes = chunk.bytes}}});
  one->flush();
  const auto found = wait_for<std::vector<std::optional<ContentHash>>>([&](auto done) { two->find_hashes({&id, 1}, done); });
  EXPECT_EQ(found.at(0), chunk.hash);
  RedisTier tier(redis::open(server.url()), keys);
  EXPECT_TRUE(same_bytes(get_one(tier, chunk.hash), chunk));
  EXPECT_TRUE(eventually([&] { return acquire(*two) == LeaseOutcome::kGranted; }));
}

TEST(RedisClusterTest, WhatIsTooMuchIsNotStoredAndItsLeaseEnds) {
  RedisServer server;
  const RedisKeys keys("test", "default");
  const auto client = redis::open(server.url());
  ClusterOverRedis small(client, keys, std::make_shared<RedisTier>(client, keys), 150'000);
  std::vector<ChunkId> ids;
  std::vector<Cluster::Fetched> fetched;
  for (std::uint64_t i = 0; i < 10; ++i) {
    const Chunk chunk = make_chunk(i, 100'000);
    ids.push_back(id_of(i));
    fetched.push_back({ids.back(), {.hash = chunk.hash, .bytes = chunk.bytes}});
  }
  wait_for<std::vector<LeaseOutcome>>([&](auto done) { small.acquire(ids, done); });
  small.publish(std::move(fetched));
  small.flush();
  const auto found = wait_for<std::vector<std::optional<ContentHash>>>([&](auto done) { small.find_hashes(ids, done); });
  EXPECT_EQ(std::count_if(found.begin(), found.end(), [](const auto& hash) { return hash.has_value(); }), 1);
  ClusterOverRedis other(client, keys, std::make_shared<RedisTier>(client, keys));
  EXPECT_TRUE(eventually([&] {
    const auto outcomes = wait_for<std::vector<LeaseOutcome>>([&](auto done) { other.acquire(ids, done); });
    return std::count(outcomes.begin(), outcomes.end(), LeaseOutcome::kGranted) == 10;
  }));
}

TEST(RedisClusterTest, WhatRedisIsTooSlowForGoesToTheSharedDirectory) {
  for (const char* policy : {"volatile-ttl", "allkeys-lru", "noeviction"}) {
    RedisServer server({.arguments = {"--maxmemory", "100mb", "--maxmemory-policy", policy}});
    TemporaryDirectory root;
    const RedisKeys keys("test", "default");
    const auto client = redis::open(server.url());
    SpillOptions spill;
    spill.directories = {root / "nfs"};
    spill.node_directory = root / "node";
    const auto directory = open_spill(spill);
    ClusterOverRedis small(client, keys, std::make_shared<RedisTier>(client, keys), 450'000, {}, directory);
    ASSERT_TRUE(eventually([&] { return small.fills_directory() != (policy == std::string("noeviction")); })) << policy;
    std::vector<ChunkId> ids;
    std::vector<PutRequest> chunks;
    std::vector<Cluster::Fetched> fetched;
    for (std::uint64_t i = 0; i < 10; ++i) {
      const Chunk chunk = make_chunk(i, 100'000);
      ids.push_back(id_of(i));
      chunks.push_back({.hash = chunk.hash, .bytes = chunk.bytes});
      fetched.push_back({ids.back(), chunks.back()});
    }
    wait_for<std::vector<LeaseOutcome>>([&](auto done) { small.acquire(ids, done); });
    small.publish(std::move(fetched));
    small.flush();
    // Four at a time go either way; two are nobody's.
    const auto found = wait_for<std::vector<std::optional<ContentHash>>>([&](auto done) { small.find_hashes(ids, done); });
    for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(found.at(i).has_value(), i < 8) << policy << " " << i;
    RedisTier tier(client, keys);
    for (std::size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(get_one(tier, chunks[i].hash).has_value(), i < 4) << policy << " " << i;
    const bool by_filler = policy == std::string("noeviction");  // one of the tiered cache writes all of them
    for (std::size_t i = 4; i < 8; ++i)
      EXPECT_EQ(same_bytes(get_one(*directory, chunks[i].hash), {chunks[i].hash, chunks[i].bytes}), !by_filler) << policy << " " << i;
    ClusterOverRedis other(client, keys, std::make_shared<RedisTier>(client, keys));
    EXPECT_TRUE(eventually([&] {
      const auto outcomes = wait_for<std::vector<LeaseOutcome>>([&](auto done) { other.acquire(ids, done); });
      return std::count(outcomes.begin(), outcomes.end(), LeaseOutcome::kGranted) == 10;
    }));
  }
}

}  // namespace
}  // namespace alnair
