// Several nodes, each a process with a directory and node memory of its own, share Redis: one fetch a chunk for all of them,
// counted by the object store, and the same samples whatever becomes of Redis.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/core/stats.h"
#include "alnair/dataset/dataset.h"
#include "cache/redis/leases.h"
#include "support/fake_s3.h"
#include "support/redis_servers.h"
#include "support/s3_reads.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::eventually;
using testing::FakeS3;
using testing::RedisCluster;
using testing::RedisServer;
using testing::Reply;

constexpr int kObjects = 120;
constexpr int kNodes = 4;

class DatasetCluster : public ::testing::Test {
 protected:
  DatasetCluster() {
    for (int i = 0; i < kObjects; ++i) {
      contents_.push_back(testing::random_bytes(100 + static_cast<std::size_t>(i) * 397));
      s3_.put("data/" + std::to_string(1000 + i), contents_.back());
    }
  }

  DatasetOptions node(int number, const std::string& redis) {
    DatasetOptions result;
    result.source = "s3://" + s3_.bucket();
    result.s3 = s3_.options();
    result.s3.hedging = false;
    result.cache.cache_dir = disk_ / ("cache" + std::to_string(number));
    result.cache.memory_dir = memory_ / ("memory" + std::to_string(number));
    result.cache.memory_limit = 64 << 20;
    result.cache.disk_limit = 64 << 20;
    result.cache.redis = redis;
    return result;
  }

  // Reads everything in an order of its own, in batches. Whether every sample was right.
  bool read_all_right(Dataset& dataset, unsigned seed, bool prefetch,
                      const std::function<void(std::size_t)>& after_batch = {}) {
    std::vector<std::uint64_t> order(kObjects);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    if (prefetch) dataset.prefetch(order);
    for (std::size_t begin = 0; begin < order.size(); begin += 8) {
      const std::span<const std::uint64_t> batch(order.data() + begin, std::min<std::size_t>(8, order.size() - begin));
      const auto samples = dataset.read_batch(batch);
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (samples[i].error || samples[i].bytes.text() != contents_[batch[i]]) return false;
      dataset.prefetch_advance(begin + batch.size());
      if (after_batch) after_batch(begin / 8);
    }
    return true;
  }

  // A node in a process of its own, which opens the dataset, reads it once, and ends.
  pid_t start_node(int number, const std::string& redis, unsigned seed, bool prefetch) {
    const pid_t child = fork();
    if (child == 0) {
      bool right = false;
      try {
        const auto dataset = Dataset::open(node(number, redis));
        right = read_all_right(*dataset, seed, prefetch);
        dataset->flush();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "node %d: %s\n", number, error.what());
      }
      _exit(right ? 0 : 1);
    }
    return child;
  }

  static int status_of(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return status;
  }

  void slow_source() {
    s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
      if (asked.kind == FakeS3::Kind::kGet) reply.first_byte_delay = std::chrono::milliseconds(20);
    });
  }

  static std::size_t leases_in(RedisServer& server) {
    const RedisKeys keys("alnair", "default");
    std::size_t fields = 0;
    for (std::uint32_t bucket = 0; bucket < RedisKeys::kLeaseBuckets; ++bucket)
      fields += static_cast<std::size_t>(server.command({"HLEN", keys.lease_bucket(bucket)}).integer);
    return fields;
  }

  // Whether nothing but what lives keeps a lease, once somebody has swept.
  static bool no_lease_is_left(RedisServer& server) {
    Leases leases(redis::open(server.url()), RedisKeys("alnair", "default"));
    return eventually([&] {
      leases.sweep([] {});
      return leases_in(server) == 0;
    });
  }

  FakeS3 s3_;
  std::vector<std::string> contents_;
  testing::TemporaryDirectory disk_;
  testing::TemporaryDirectory memory_{"/dev/shm"};
};

TEST_F(DatasetCluster, NodesThatReadTogetherCauseOneGetAnObject) {
  RedisCluster redis;
  slow_source();
  std::vector<pid_t> children;
  for (int i = 0; i < kNodes; ++i) children.push_back(start_node(i, redis.url(), static_cast<unsigned>(i), i % 2 == 0));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
  EXPECT_EQ(s3_.retries(), 0);
}

TEST_F(DatasetCluster, NodesInTheSameOrderDoToo) {
  RedisServer redis;
  std::vector<pid_t> children;
  for (int i = 0; i < kNodes; ++i) children.push_back(start_node(i, redis.url(), 7, true));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
  EXPECT_TRUE(no_lease_is_left(redis));
}

TEST_F(DatasetCluster, AFreshNodeAsksTheSourceForNothing) {
  RedisServer redis;
  ASSERT_EQ(status_of(start_node(1, redis.url(), 1, true)), 0);
  ASSERT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
  ASSERT_EQ(status_of(start_node(2, redis.url(), 2, true)), 0);
  ASSERT_EQ(status_of(start_node(3, redis.url(), 3, false)), 0);
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
}

TEST_F(DatasetCluster, WhatRedisHasLostComesFromTheSharedDirectoryAndGoesBack) {
  RedisServer redis;
  auto first = node(1, redis.url()), second = node(2, redis.url()), third = node(3, redis.url());
  for (auto* options : {&first, &second, &third}) {
    options->cache.spill = {disk_ / "nfs"};
    options->cache.spill_limit = 64 << 20;
  }
  {
    const auto dataset = Dataset::open(first);
    ASSERT_TRUE(read_all_right(*dataset, 1, true));
    dataset->flush();
  }
  for (const auto& key : redis.command({"KEYS", "alnair:default:*"}).elements)  // the values; the index stays
    if (key.text().size() > 64) redis.command({"DEL", std::string(key.text())});
  const auto before = stats();
  {
    const auto dataset = Dataset::open(second);
    EXPECT_TRUE(read_all_right(*dataset, 2, false));
    dataset->flush();
  }
  EXPECT_EQ(stats()["spill_hits"] - before.at("spill_hits"), kObjects);
  {
    const auto dataset = Dataset::open(third);
    EXPECT_TRUE(read_all_right(*dataset, 3, false));
  }
  EXPECT_EQ(stats()["redis_hits"] - before.at("redis_hits"), kObjects);
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
}

TEST_F(DatasetCluster, PlantedBytesAreNeverRead) {
  RedisServer redis;
  ASSERT_EQ(status_of(start_node(1, redis.url(), 1, true)), 0);
  int planted = 0;
  std::vector<std::string> chunks;
  for (const auto& key : redis.command({"KEYS", "alnair:default:*"}).elements)
    if (key.text().size() > 64) chunks.emplace_back(key.text());
  ASSERT_EQ(chunks.size(), static_cast<std::size_t>(kObjects));
  for (const auto& key : chunks) {
    if (++planted % 3 == 0) redis.command({"SETRANGE", key, "40", "planted"});           // other bytes
    if (planted % 3 == 1) redis.command({"COPY", chunks.front(), key, "REPLACE"});       // another chunk's
  }
  ASSERT_EQ(status_of(start_node(2, redis.url(), 2, true)), 0);
  ASSERT_EQ(status_of(start_node(3, redis.url(), 3, false)), 0);
  EXPECT_GT(s3_.count(FakeS3::Kind::kGet), kObjects + kObjects / 2);
  EXPECT_LT(s3_.count(FakeS3::Kind::kGet), 2 * kObjects) << "each is fetched once, and is whole again";
}

TEST_F(DatasetCluster, AFlushOrTheEndOfTheServerMidEpochCostsNoSample) {
  RedisServer redis;
  ASSERT_EQ(status_of(start_node(1, redis.url(), 1, true)), 0);
  const auto dataset = Dataset::open(node(2, redis.url() + "?timeout_ms=1000&deadline_ms=3000"));
  EXPECT_TRUE(read_all_right(*dataset, 2, true, [&](std::size_t batch) {
    if (batch == 4) redis.command({"FLUSHALL"});
    if (batch == 9) redis.kill();
  }));
}

TEST_F(DatasetCluster, AJobStartsAndReadsWithoutItsServers) {
  const auto dataset = Dataset::open(node(1, "redis://127.0.0.1:1?timeout_ms=1000&deadline_ms=2000"));
  EXPECT_TRUE(read_all_right(*dataset, 1, true));
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
}

TEST_F(DatasetCluster, AFullServerCostsFetchesAndNoSample) {
  RedisServer redis{{.arguments = {"--maxmemory", "3mb", "--maxmemory-policy", "noeviction"}}};
  std::vector<pid_t> children;
  for (int i = 0; i < kNodes; ++i) children.push_back(start_node(i, redis.url(), static_cast<unsigned>(i), true));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
}

TEST_F(DatasetCluster, AFailoverMidEpochCostsNoSample) {
  RedisCluster redis{{.replicas = 1, .node_timeout_ms = 1000}};
  ASSERT_EQ(status_of(start_node(1, redis.url(), 1, true)), 0);
  const auto dataset = Dataset::open(node(2, redis.url() + "?timeout_ms=1000&deadline_ms=5000"));
  EXPECT_TRUE(read_all_right(*dataset, 2, true, [&](std::size_t batch) {
    if (batch == 4) redis.server(0).kill();
  }));
}

TEST_F(DatasetCluster, NodesThatAreKilledCostWhatTheyHadNotPassedOnAndLeaveNoLease) {
  RedisServer redis;
  slow_source();
  std::mt19937 random(5);
  int unfilled = 0;  // chunks that no node had passed on yet, summed over the kills
  for (int round = 0; round < 3; ++round) {
    std::vector<pid_t> victims;
    for (int i = 0; i < kNodes; ++i)
      victims.push_back(start_node(10 * round + i, redis.url(), static_cast<unsigned>(10 * round + i), true));
    std::this_thread::sleep_for(std::chrono::milliseconds(100 + random() % 200));
    for (const pid_t victim : victims) kill(victim, SIGKILL);
    for (const pid_t victim : victims) status_of(victim);
    int told = 0;
    for (const auto& bucket : redis.command({"KEYS", "alnair:default:i:*"}).elements)
      told += static_cast<int>(redis.command({"HLEN", std::string(bucket.text())}).integer);
    unfilled += kObjects - told;
  }
  std::vector<pid_t> children;
  for (int i = 0; i < kNodes; ++i) children.push_back(start_node(100 + i, redis.url(), static_cast<unsigned>(i), i % 2 == 0));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_LE(s3_.count(FakeS3::Kind::kGet), kObjects + unfilled);
  EXPECT_TRUE(no_lease_is_left(redis));
}

// The rules that docs/cluster.md gives for a job's user.
TEST_F(DatasetCluster, AUserWithNoMoreThanTheDocumentedRightsWillDo) {
  RedisServer redis;
  redis.command({"ACL", "SETUSER", "job", "on", ">secret", "resetchannels", "~alnair:default:*", "-@all", "+info", "+get", "+set",
                 "+del", "+exists", "+hmget", "+hset", "+hget", "+hdel", "+hkeys", "+time", "+eval", "+evalsha"});
  const std::string url = "redis://job:secret@" + redis.address() + "?mode=standalone";
  const auto before = stats();
  {
    const auto dataset = Dataset::open(node(1, url));
    EXPECT_TRUE(read_all_right(*dataset, 1, true));
    dataset->flush();
    EXPECT_EQ(stats()["redis_puts"] - before.at("redis_puts"), kObjects);
  }
  EXPECT_TRUE(read_all_right(*Dataset::open(node(2, url)), 2, true));
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
  EXPECT_TRUE(no_lease_is_left(redis));
  EXPECT_EQ(stats()["redis_faults"], before.at("redis_faults"));
  const auto log = redis.command({"ACL", "LOG"});
  EXPECT_EQ(log.elements.size(), 0u) << "nothing was denied";
}

TEST_F(DatasetCluster, WhatNoWaitingMendsIsAnErrorThatNamesIt) {
  RedisServer redis;
  redis.command({"SET", "alnair:default:format", "99"});
  EXPECT_THROW(Dataset::open(node(1, redis.url())), ConfigError);
  EXPECT_THROW(Dataset::open(node(2, "redis://nobody:secret@" + redis.address())), AccessError);
  try {
    Dataset::open(node(3, "redis://u:secret@127.0.0.1:1?colour=blue"));
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("colour"), std::string::npos);
    EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos);
  }
}

}  // namespace
}  // namespace alnair
