// The flusher on real Redis and a real directory: what Redis evicts is in the directory.
#include "cache/redis/flusher.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "alnair/core/stats.h"
#include "cache/directory/directory_share.h"
#include "cache/directory/segment_table.h"
#include "cache/directory/spill_tier.h"
#include "cache/private_directory.h"
#include "cache/redis/cluster_over_redis.h"
#include "cache/redis/use_teller.h"
#include "cache/tier_contract.h"
#include "directory_support.h"
#include "hooked_file_system.h"
#include "support/redis_servers.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using testing::disk::count_hits;
using testing::disk::hashes_of;
using testing::disk::make_chunks;

// A node: what it shares of Redis and directory, and its flusher.
struct FlusherNode {
  FlusherNode(const std::string& url, const std::string& nfs, const std::string& node_directory, std::uint64_t limit,
              std::chrono::milliseconds lease, std::shared_ptr<FileSystem> files = nullptr)
      : client(redis::open(url)), tier(std::make_shared<RedisTier>(client, keys)) {
    cluster = std::make_shared<ClusterOverRedis>(client, keys, tier, 64u << 20, Leases::Timing{lease, 60s});
    SpillOptions options;
    options.directories = {nfs};
    options.node_directory = node_directory;
    options.limit_bytes = limit;
    options.rescan_after = 0ms;
    options.files = std::move(files);
    options.before_drop = [this](std::span<const ContentHash> hashes) {
      return Flusher::keep_in_redis(*client, keys, hashes);
    };
    directory = open_spill(options);
    flusher = std::make_unique<Flusher>(client, keys, tier, directory, cluster, Flusher::Options{});
  }

  const RedisKeys keys{"test", "default"};
  const std::shared_ptr<redis::Client> client;
  const std::shared_ptr<RedisTier> tier;
  std::shared_ptr<Cluster> cluster;
  std::shared_ptr<DurableTier> directory;
  std::unique_ptr<Flusher> flusher;
};

class FlusherTest : public ::testing::Test {
 protected:
  std::unique_ptr<FlusherNode> node(int number, std::uint64_t limit = 256u << 20, std::chrono::milliseconds lease = 60s) {
    return std::make_unique<FlusherNode>(server_.url(), root_ / "nfs", root_ / ("node" + std::to_string(number)), limit, lease);
  }
  std::int64_t ttl(const ContentHash& hash) {
    return server_.command({"PTTL", RedisKeys("test", "default").chunk(hash)}).integer;
  }
  // Does not shrink between two looks, as what is left of it does.
  std::int64_t expiry(const ContentHash& hash) {
    return server_.command({"PEXPIRETIME", RedisKeys("test", "default").chunk(hash)}).integer;
  }
  static std::size_t stored(Tier& tier, const std::vector<PutRequest>& chunks) { return disk::count_stored(tier, chunks); }

  TemporaryDirectory root_;
  RedisServer server_{{.arguments = {"--maxmemory", "20mb", "--maxmemory-policy", "volatile-ttl"}}};
};

TEST_F(FlusherTest, ChunksGetAnExpiryOnceTheyAreDurable) {
  const auto one = node(1);
  const auto chunks = make_chunks(20, 50'000, 1);
  ASSERT_EQ(stored(*one->tier, chunks), 20u);
  const auto round = one->flusher->run_once(true);
  EXPECT_TRUE(round.elected && round.guaranteed);
  EXPECT_EQ(round.dirty_chunks, 20u);
  EXPECT_EQ(round.written_bytes, 20u * 50'000);
  EXPECT_EQ(round.released_chunks, 20u);
  for (const auto& chunk : chunks) EXPECT_GT(ttl(chunk.hash), 2'000'000'000'000);
  EXPECT_EQ(count_hits(*one->directory, chunks), 20u);
  EXPECT_EQ(one->flusher->run_once(true).dirty_chunks, 0u) << "nothing is left to do";
  EXPECT_EQ(server_.text({"GET", "test:default:directory"}), one->directory->identity());
}

TEST_F(FlusherTest, NothingIsEvictedThatTheDirectoryDoesNotHave) {
  const auto one = node(1);
  std::vector<PutRequest> kept;
  for (std::uint64_t batch = 0; batch < 60; ++batch) {
    const auto chunks = make_chunks(10, 100'000, batch);  // 60 MB in all, into 20
    std::vector<PutOutcome> outcomes(chunks.size());
    one->tier->put(chunks, outcomes);
    for (std::size_t i = 0; i < chunks.size(); ++i)
      if (outcomes[i] == PutOutcome::kStored) kept.push_back(chunks[i]);
    one->flusher->run_once();
  }
  EXPECT_GT(kept.size(), 300u) << "Redis takes more than it has room for";
  const auto info = server_.text({"INFO", "stats"});
  const auto evicted = std::stoull(info.substr(info.find("evicted_keys:") + 13));
  EXPECT_GT(evicted, 50u);
  std::size_t lost = 0;
  for (const auto& chunk : kept) {
    if (same_bytes(get_one(*one->tier, chunk.hash), {chunk.hash, chunk.bytes})) continue;
    lost += !same_bytes(get_one(*one->directory, chunk.hash), {chunk.hash, chunk.bytes});
  }
  EXPECT_EQ(lost, 0u);
}

TEST_F(FlusherTest, WithoutAFlusherWritesAreRefusedAndReadsGoOn) {
  const auto one = node(1);
  std::vector<PutRequest> kept;
  for (std::uint64_t batch = 0; batch < 30; ++batch)
    for (const auto& chunk : make_chunks(10, 100'000, batch))
      if (stored(*one->tier, {chunk}) == 1) kept.push_back(chunk);
  EXPECT_LT(kept.size(), 200u);
  EXPECT_EQ(count_hits(*one->tier, kept), kept.size());
}

TEST_F(FlusherTest, WhatLeavesTheDirectoryStaysInRedis) {
  const auto one = node(1, 3u << 20);
  const auto first = make_chunks(10, 100'000, 1, 1), second = make_chunks(25, 100'000, 2, 2);
  ASSERT_EQ(stored(*one->tier, first), 10u);
  ASSERT_EQ(one->flusher->run_once(true).released_chunks, 10u);
  for (const auto& chunk : first) ASSERT_GT(ttl(chunk.hash), 0);
  stored(*one->directory, second);  // drops the first ones
  std::size_t gone = 0;
  for (const auto& chunk : first) {
    if (get_one(*one->directory, chunk.hash)) continue;
    ++gone;
    EXPECT_EQ(ttl(chunk.hash), -1);
  }
  EXPECT_GT(gone, 0u);
}

TEST_F(FlusherTest, WhatRedisCannotBeToldOfStays) {
  const auto one = node(1, 3u << 20);
  const auto first = make_chunks(10, 100'000, 1, 1);
  ASSERT_EQ(stored(*one->tier, first), 10u);
  ASSERT_EQ(one->flusher->run_once(true).released_chunks, 10u);
  server_.kill();
  EXPECT_LT(stored(*one->directory, make_chunks(25, 100'000, 2, 2)), 25u);
  EXPECT_EQ(count_hits(*one->directory, first), 10u);
  // Nor does one drop anything there who does not know of Redis.
  SpillOptions without;
  without.directories = {root_ / "nfs"};
  without.limit_bytes = 3u << 20;
  without.eviction = EvictionPolicy::kLru;
  without.key_namespace = "alnair";
  const auto stranger = open_spill(without);
  stored(*stranger, make_chunks(25, 100'000, 3, 3));
  EXPECT_EQ(count_hits(*one->directory, first), 10u);
}

TEST_F(FlusherTest, AnotherDirectoryVouchesForNothingThatItDoesNotHave) {
  const auto chunks = make_chunks(10, 50'000, 1);
  {
    const auto one = node(1);
    ASSERT_EQ(stored(*one->tier, chunks), 10u);
    ASSERT_EQ(one->flusher->run_once(true).released_chunks, 10u);
  }
  std::filesystem::remove_all(root_ / "nfs");
  const auto two = node(2);
  EXPECT_TRUE(eventually([&] { return two->flusher->run_once(true).released_chunks == 10; }));
  EXPECT_EQ(count_hits(*two->directory, chunks), 10u);
  EXPECT_EQ(server_.text({"GET", "test:default:directory"}), two->directory->identity());
}

TEST_F(FlusherTest, OneOfTwoIsElectedAndTheOtherTakesOver) {
  auto one = node(1);
  const auto two = node(2);
  EXPECT_TRUE(one->flusher->run_once().elected);
  EXPECT_FALSE(two->flusher->run_once().elected);
  EXPECT_TRUE(one->flusher->run_once().elected);
  one->cluster->close();
  EXPECT_TRUE(eventually([&] { return two->flusher->run_once().elected; }));
}

TEST_F(FlusherTest, UnderOtherPoliciesItDoesNothing) {
  server_.command({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"});
  const auto one = node(1);
  ASSERT_EQ(stored(*one->tier, make_chunks(5, 50'000, 1)), 5u);
  const auto round = one->flusher->run_once(true);
  EXPECT_TRUE(round.elected);
  EXPECT_FALSE(round.guaranteed);
  EXPECT_EQ(round.written_bytes, 0u);
}

TEST_F(FlusherTest, AKillAtAnyCallLeavesNothingThatMayBeLost) {
  const auto chunks = make_chunks(10, 100'000, 1);
  {
    const auto one = node(1);
    ASSERT_EQ(stored(*one->tier, chunks), 10u);
  }
  bool killed = true;
  int step = 0;
  for (; killed; ++step) {
    std::filesystem::remove_all(root_ / "nfs");
    for (const auto& chunk : chunks) server_.command({"PERSIST", RedisKeys("test", "default").chunk(chunk.hash)});
    for (const auto& key : server_.command({"KEYS", "test:default:l:*"}).elements)  // the last one's lease
      server_.command({"DEL", std::string(key.text())});
    const pid_t child = fork();
    if (child == 0) {
      const auto calls = std::make_shared<std::atomic<int>>(0);
      const auto deadly = std::make_shared<HookedFileSystem>([calls, step](std::string_view, const std::string&) {
        if ((*calls)++ == step) kill(getpid(), SIGKILL);
        return 0;
      });
      {
        const auto victim = std::make_unique<FlusherNode>(server_.url(), root_ / "nfs", root_ / ("victim" + std::to_string(step)), 256u << 20, 500ms, deadly);
        victim->flusher->run_once(true);
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    killed = WIFSIGNALED(status);
    // Whatever has an expiry is in the directory, in the eyes of a host that looks for the first time.
    std::vector<PutRequest> evictable;
    for (const auto& chunk : chunks)
      if (ttl(chunk.hash) > 0) evictable.push_back(chunk);
    EXPECT_TRUE(killed || evictable.size() == 10u);
    const auto other = node(100 + step);
    EXPECT_EQ(count_hits(*other->directory, evictable), evictable.size()) << step;
  }
  EXPECT_GT(step, 15);
}

TEST_F(FlusherTest, AFullRedisThatRefusesLeasesIsFlushedAllTheSame) {
  const auto one = node(1), two = node(2);
  for (std::uint64_t batch = 0; batch < 30; ++batch) stored(*one->tier, make_chunks(10, 100'000, batch));
  ASSERT_EQ(stored(*one->tier, make_chunks(1, 100'000, 1000)), 0u);
  EXPECT_GT(two->flusher->run_once().released_chunks, 10u);
  EXPECT_TRUE(eventually([&] { return stored(*one->tier, make_chunks(1, 100'000, 1000)) == 1; }));
}

TEST_F(FlusherTest, ThePolicySaysWhatGoesFirstAndWhatIsReadLaterMovesOn) {
  if (testing::is_redis_6()) GTEST_SKIP() << "Redis 6 cannot be told that a chunk was used: docs/cluster.md";
  const auto one = node(1);
  const auto chunks = make_chunks(4, 10'000, 1), dirty = make_chunks(1, 10'000, 2);
  const auto hashes = hashes_of(chunks);
  UseTeller uses(one->client, one->keys, std::make_shared<NextUsePolicy>());
  uses.expect(std::vector{hashes[0], hashes[2], hashes[3]}, true);
  uses.used({hashes.data(), 1});
  Flusher flusher(one->client, one->keys, one->tier, one->directory, one->cluster, {.pace = {}, .policy = uses.policy()});
  ASSERT_EQ(stored(*one->tier, chunks), 4u);
  ASSERT_EQ(flusher.run_once(true).released_chunks, 4u);
  EXPECT_LT(expiry(hashes[0]), expiry(hashes[1])) << "it was read, the other one was not";
  EXPECT_LT(expiry(hashes[1]), expiry(hashes[3])) << "which is needed";
  EXPECT_LT(expiry(hashes[3]), expiry(hashes[2])) << "later";
  ASSERT_EQ(stored(*one->tier, dirty), 1u);
  // Another process, which has no flusher that runs, reads.
  const auto two = node(2);
  UseTeller others(two->client, two->keys, std::make_shared<NextUsePolicy>());
  const std::vector read{hashes[2], dirty[0].hash};
  EXPECT_TRUE(eventually([&] {
    others.used(read);
    std::this_thread::sleep_for(100ms);
    return expiry(hashes[2]) < expiry(hashes[0]);
  }));
  EXPECT_EQ(ttl(dirty[0].hash), -1) << "what is not durable may not be evicted";
}

TEST_F(FlusherTest, NothingIsToldOfWhatWasReadWhileNothingMayBeEvicted) {
  const auto one = node(1);
  const auto chunks = make_chunks(4, 10'000, 1);
  const auto hashes = hashes_of(chunks);
  ASSERT_EQ(stored(*one->tier, chunks), 4u);
  UseTeller uses(one->client, one->keys, std::make_shared<RecencyPolicy>());
  const auto asked = [&] { return server_.text({"INFO", "commandstats"}).find("cmdstat_pexpireat") != std::string::npos; };
  for (int i = 0; i < 20; ++i) {
    uses.used(hashes);
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_FALSE(asked());
}

TEST_F(FlusherTest, TheUserThatTheDocumentationNamesWillDo) {
  if (testing::is_redis_6()) GTEST_SKIP() << "Redis 6 cannot be told that a chunk was used: docs/cluster.md";
  server_.command({"ACL", "SETUSER", "job", "on", ">secret", "~test:default:*", "-@all", "+info", "+get", "+set",
                   "+del", "+exists", "+hmget", "+hset", "+hget", "+hdel", "+hkeys", "+time", "+eval", "+evalsha",
                   "+scan", "+pttl", "+getrange", "+pexpireat", "+persist"});
  const auto one = std::make_unique<FlusherNode>("redis://job:secret@" + server_.address() + "?mode=standalone", root_ / "nfs",
                                                 root_ / "node1", 256u << 20, 60s);
  const auto chunks = make_chunks(20, 50'000, 1);
  const auto hashes = hashes_of(chunks);
  ASSERT_EQ(stored(*one->tier, chunks), 20u);
  EXPECT_EQ(one->flusher->run_once(true).released_chunks, 20u);
  EXPECT_TRUE(Flusher::keep_in_redis(*one->client, one->keys, hashes));
  UseTeller uses(one->client, one->keys, std::make_shared<RecencyPolicy>());
  EXPECT_EQ(one->flusher->run_once(true).released_chunks, 20u);
  const std::int64_t before = expiry(hashes[0]);
  EXPECT_TRUE(eventually([&] {
    uses.used(hashes);
    std::this_thread::sleep_for(100ms);
    return expiry(hashes[0]) > before;
  }));
  EXPECT_EQ(server_.command({"ACL", "LOG"}).elements.size(), 0u) << "nothing was denied";
}

TEST_F(FlusherTest, OneProcessOfANodeRunsIt) {
  auto& locks = LockFile::open(root_ / "locks");
  auto one = node(1);
  const auto two = node(2);
  EXPECT_TRUE(one->flusher->start(&locks, "redis"));
  EXPECT_TRUE(one->flusher->start(&locks, "redis"));
  EXPECT_FALSE(two->flusher->start(&locks, "redis"));
  EXPECT_TRUE(two->flusher->start(&locks, "another"));
  one.reset();
  EXPECT_TRUE(node(3)->flusher->start(&locks, "redis"));
}

// Of another domain there is more in the same servers, and what lies only there is none of ours.
TEST_F(FlusherTest, CountsWhatOnlyRedisHasToTheByteAndHowOldItIs) {
  const auto one = node(1);
  const auto small = make_chunks(20, 1'000, 1), large = make_chunks(7, 300'000, 2);
  RedisTier others(one->client, RedisKeys("test", "others"));
  ASSERT_EQ(stored(others, make_chunks(30, 70'000, 3)), 30u);
  ASSERT_EQ(stored(*one->tier, small), 20u);
  std::this_thread::sleep_for(2100ms);
  ASSERT_EQ(stored(*one->tier, large), 7u);
  server_.command({"CONFIG", "SET", "maxmemory", "4gb"});
  one->flusher->run_once();  // far below the mark: nothing is written
  EXPECT_EQ(stats()["flush_dirty_bytes"], 20 * 1'000 + 7 * 300'000);
  EXPECT_EQ(stats()["flush_counted_seconds"], 0);
  EXPECT_GE(stats()["flush_dirty_seconds"], 2);
  EXPECT_LT(stats()["flush_dirty_seconds"], 60);
  for (const auto& chunk : small) server_.command({"DEL", one->keys.chunk(chunk.hash)});
  EXPECT_TRUE(eventually([&] {  // a walk that only counts is due after a while
    one->flusher->run_once();
    return stats()["flush_dirty_bytes"] == 7 * 300'000;
  }));
  ASSERT_EQ(one->flusher->run_once(true).released_chunks, 7u);
  EXPECT_EQ(stats()["flush_dirty_bytes"], 0);
  EXPECT_EQ(stats()["flush_dirty_seconds"], 0);
}

TEST_F(FlusherTest, WhatTheDirectoryHasLostIsTakenBackAndWrittenAgain) {
  const auto before = stats();
  const auto gained = [&](const char* name) { return stats()[name] - before.at(name); };
  const auto one = node(1);
  const auto chunks = make_chunks(20, 50'000, 1);
  ASSERT_EQ(stored(*one->tier, chunks), 20u);
  ASSERT_EQ(one->flusher->run_once(true).released_chunks, 20u);
  for (const auto& file : std::filesystem::recursive_directory_iterator(root_ / "nfs"))
    if (file.path().extension() == ".segment") std::filesystem::remove(file.path());
  Flusher::Round round;
  EXPECT_TRUE(eventually([&] { return (round = one->flusher->run_once(true)).exposed_chunks > 0; })) << "once that is noticed";
  EXPECT_EQ(round.exposed_chunks, 20u);
  EXPECT_EQ(round.released_chunks, 20u);
  EXPECT_EQ(gained("flush_exposed_chunks"), 20);
  EXPECT_EQ(one->flusher->run_once(true).exposed_chunks, 0u);
  for (const auto& chunk : chunks) EXPECT_GT(ttl(chunk.hash), 0);
  EXPECT_EQ(count_hits(*one->directory, chunks), 20u);
}

// A host that can index two segments, in a directory to which another one has written three.
TEST_F(FlusherTest, WhatLiesBeyondAHostsIndexIsNotTakenBack) {
  auto one = node(1);
  std::vector<PutRequest> all;
  for (std::uint64_t batch = 0; batch < 3; ++batch) {
    const auto chunks = make_chunks(5, 50'000, batch);
    ASSERT_EQ(stored(*one->tier, chunks), 5u);
    ASSERT_EQ(one->flusher->run_once(true).released_chunks, 5u);
    all.insert(all.end(), chunks.begin(), chunks.end());
  }
  EXPECT_TRUE(one->directory->knows_all());
  one.reset();
  open_private_directory(root_ / "node2");
  SegmentTable(DirectoryShare(root_ / "node2", root_ / "nfs/alnair/default").table_path(), 2);
  const auto two = node(2);
  const auto round = two->flusher->run_once(true);
  EXPECT_TRUE(round.elected && round.whole);
  EXPECT_EQ(round.exposed_chunks, 0u);
  EXPECT_FALSE(two->directory->knows_all());
  EXPECT_FALSE(node(2)->directory->knows_all()) << "another process of the host";
  EXPECT_EQ(count_hits(*two->directory, all), 10u);
  for (const auto& chunk : all) EXPECT_GT(ttl(chunk.hash), 0);
}

// What does not answer may have everything all the same.
TEST_F(FlusherTest, WhatADirectoryThatFailsHasIsNotTakenBack) {
  const auto failing = std::make_shared<std::atomic<bool>>(false);
  const auto files = std::make_shared<HookedFileSystem>([failing](std::string_view, const std::string&) { return *failing ? -EIO : 0; });
  const auto one = std::make_unique<FlusherNode>(server_.url(), root_ / "nfs", root_ / "node1", 256u << 20, 60s, files);
  const auto chunks = make_chunks(20, 50'000, 1);
  ASSERT_EQ(stored(*one->tier, chunks), 20u);
  ASSERT_EQ(one->flusher->run_once(true).released_chunks, 20u);
  *failing = true;
  EXPECT_EQ(one->flusher->run_once(true).exposed_chunks, 0u);
  for (const auto& chunk : chunks) EXPECT_GT(ttl(chunk.hash), 0);
}

TEST_F(FlusherTest, CountsWhatItDoesAndWhatIsEvicted) {
  const auto before = stats();
  const auto gained = [&](const char* name) { return stats()[name] - before.at(name); };
  const auto one = node(1);
  const auto chunks = make_chunks(20, 100'000, 1);
  ASSERT_EQ(stored(*one->tier, chunks), 20u);
  one->flusher->run_once();  // far below the mark: nothing is written
  EXPECT_GT(stats()["flush_dirty_bytes"], 1'000'000);
  ASSERT_TRUE(one->flusher->run_once(true).whole);
  EXPECT_EQ(gained("flush_written_bytes"), 20 * 100'000);
  EXPECT_EQ(gained("flush_released_chunks"), 20);
  one->flusher->run_once();
  EXPECT_EQ(stats()["flush_dirty_bytes"], 0);
  EXPECT_EQ(stats()["flush_dirty_seconds"], 0);
  for (std::uint64_t batch = 2; batch < 30; ++batch) {
    stored(*one->tier, make_chunks(10, 100'000, batch));
    one->flusher->run_once(true);
  }
  EXPECT_GT(gained("flush_evicted_keys"), 10);
  EXPECT_EQ(gained("flush_evicted_unvouched"), 0);
  // Somebody lets Redis evict anything.
  server_.command({"CONFIG", "SET", "maxmemory-policy", "allkeys-random"});
  for (std::uint64_t batch = 30; batch < 40; ++batch) stored(*one->tier, make_chunks(10, 100'000, batch));
  one->flusher->run_once(true);
  EXPECT_GT(gained("flush_evicted_unvouched"), 10);
}

}  // namespace
}  // namespace alnair
