// Several nodes, each a process with a directory and node memory of its own, share Redis: one fetch a chunk for all of them,
// counted by the object store, and the same samples whatever becomes of Redis.
#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/core/stats.h"
#include "core/log.h"
#include "dataset/cluster_support.h"

namespace alnair {
namespace {

using testing::DatasetCluster;
using testing::FakeS3;
using testing::RedisCluster;
using testing::RedisServer;

constexpr int kObjects = DatasetCluster::kObjects;
constexpr int kNodes = 4;

class DatasetClusterNodes : public DatasetCluster {
 protected:
  void expect_one_get_an_object(const std::string& redis) {
    slow_source();
    std::vector<pid_t> children;
    for (int i = 0; i < kNodes; ++i) children.push_back(start_node(i, redis, static_cast<unsigned>(i), i % 2 == 0));
    for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
    EXPECT_EQ(fetched(), kObjects);
    EXPECT_EQ(s3_.retries(), 0);
  }

  DatasetOptions spilling_node(int number, const std::string& redis) {
    DatasetOptions options = node(number, redis);
    options.cache.spill = {disk_ / "nfs"};
    options.cache.spill_limit = 64 << 20;
    return options;
  }

  static std::vector<std::string> chunk_keys(RedisServer& redis) {
    std::vector<std::string> keys;
    for (const auto& key : redis.command({"KEYS", RedisKeys("alnair", "default").chunk_pattern()}).elements)
      keys.emplace_back(key.text());
    return keys;
  }
};

TEST_F(DatasetClusterNodes, NodesThatReadTogetherCauseOneGetAnObject) {
  RedisCluster redis;
  expect_one_get_an_object(redis.url());
}

TEST_F(DatasetClusterNodes, TheyDoOverTls) {
  const testing::Certificates certificates;
  RedisCluster redis{{.tls = &certificates}};
  expect_one_get_an_object(redis.tls_url());
}

TEST_F(DatasetClusterNodes, TheyDoOnValkey) {
  const std::string program = testing::valkey_server();
  if (program.empty()) GTEST_SKIP() << "ALNAIR_TEST_VALKEY names no program: run tests/run, which sets it";
  RedisCluster redis{{.program = program}};
  expect_one_get_an_object(redis.url());
}

TEST_F(DatasetClusterNodes, TheyDoOnValkeyOverTls) {
  const std::string program = testing::valkey_server();
  if (program.empty()) GTEST_SKIP() << "ALNAIR_TEST_VALKEY names no program: run tests/run, which sets it";
  const testing::Certificates certificates;
  try {
    RedisServer one{{.tls = &certificates, .program = program}};
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << program << " was built without TLS";
  }
  RedisCluster redis{{.tls = &certificates, .program = program}};
  expect_one_get_an_object(redis.tls_url());
}

// twemproxy has no scripts of several commands, and so no leases: they come one after the other.
TEST_F(DatasetClusterNodes, NodesBehindAProxyFindWhatOthersFetched) {
  RedisServer one, two;
  testing::RedisProxy proxy({&one, &two});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(fresh_node_reads_all_right(proxy.url() + "?mode=proxy"));
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterNodes, NodesBehindEnvoyThatReadTogetherCauseOneGetAnObject) {
  if (testing::envoy_program().empty()) GTEST_SKIP() << "ALNAIR_TEST_ENVOY names no program: run tests/run, which sets it";
  RedisServer one, two;
  testing::RedisProxy proxy({&one, &two}, testing::RedisProxy::Kind::kEnvoy);
  expect_one_get_an_object(proxy.url());
  EXPECT_GT(chunk_keys(one).size(), 0u);
  EXPECT_GT(chunk_keys(two).size(), 0u);
}

TEST_F(DatasetClusterNodes, NodesInTheSameOrderDoToo) {
  RedisServer redis;
  std::vector<pid_t> children;
  for (int i = 0; i < kNodes; ++i) children.push_back(start_node(i, redis.url(), 7, true));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(fetched(), kObjects);
  EXPECT_TRUE(no_lease_is_left(redis));
}

TEST_F(DatasetClusterNodes, AFreshNodeAsksTheSourceForNothing) {
  RedisServer redis;
  ASSERT_EQ(status_of(start_node(1, redis.url(), 1, true)), 0);
  ASSERT_EQ(fetched(), kObjects);
  ASSERT_EQ(status_of(start_node(2, redis.url(), 2, true)), 0);
  ASSERT_EQ(status_of(start_node(3, redis.url(), 3, false)), 0);
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterNodes, WhatRedisHasLostComesFromTheSharedDirectoryAndGoesBack) {
  RedisServer redis;
  {
    const auto dataset = Dataset::open(spilling_node(1, redis.url()));
    ASSERT_TRUE(read_all_right(*dataset, 1, true));
    dataset->flush();
  }
  for (const std::string& key : chunk_keys(redis)) redis.command({"DEL", key});  // the index stays
  const auto before = stats();
  {
    const auto dataset = Dataset::open(spilling_node(2, redis.url()));
    EXPECT_TRUE(read_all_right(*dataset, 2, false));
    dataset->flush();
  }
  EXPECT_EQ(stats()["spill_hits"] - before.at("spill_hits"), kObjects);
  {
    const auto dataset = Dataset::open(spilling_node(3, redis.url()));
    EXPECT_TRUE(read_all_right(*dataset, 3, false));
  }
  EXPECT_EQ(stats()["redis_hits"] - before.at("redis_hits"), kObjects);
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterNodes, BytesPlantedInRedisAreCountedDeletedAndFetchedAgain) {
  RedisServer redis;
  ASSERT_TRUE(fresh_node_reads_all_right(redis.url()));
  const auto chunks = chunk_keys(redis);
  ASSERT_EQ(chunks.size(), static_cast<std::size_t>(kObjects));
  int planted = 0;
  for (std::size_t i = 1; i < chunks.size(); ++i) {
    if (i % 3 == 0) redis.command({"SETRANGE", chunks[i], "40", "planted"});           // other bytes
    if (i % 3 == 1) redis.command({"COPY", chunks.front(), chunks[i], "REPLACE"});     // another chunk's
    planted += i % 3 != 2;
  }
  const auto before = stats();
  EXPECT_TRUE(fresh_node_reads_all_right(redis.url()));
  EXPECT_EQ(stats()["redis_corrupt"] - before.at("redis_corrupt"), planted);
  EXPECT_EQ(fetched(), kObjects + planted);
  EXPECT_TRUE(fresh_node_reads_all_right(redis.url()));
  EXPECT_EQ(stats()["redis_corrupt"] - before.at("redis_corrupt"), planted) << "what was wrong is gone";
  EXPECT_EQ(fetched(), kObjects + planted) << "and whole again";
}

TEST_F(DatasetClusterNodes, BytesPlantedInTheSharedDirectoryAreCountedAndFetchedAgain) {
  RedisServer redis;
  const auto reads_all_right = [&](int number) {
    const auto dataset = Dataset::open(spilling_node(number, redis.url()));
    const bool right = read_all_right(*dataset, static_cast<unsigned>(number), false);
    dataset->flush();
    for (const std::string& key : chunk_keys(redis)) redis.command({"DEL", key});
    return right;
  };
  ASSERT_TRUE(reads_all_right(1));
  int segments = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(disk_ / "nfs")) {
    if (!entry.is_regular_file() || entry.file_size() < 1'000'000) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (std::streamoff at = 100'000; at < 1'000'000; at += 90'000) file.seekp(at), file << "planted";
    ++segments;
  }
  ASSERT_GT(segments, 0);
  const auto before = stats();
  EXPECT_TRUE(reads_all_right(2));
  const int planted = static_cast<int>(stats()["spill_corrupt"] - before.at("spill_corrupt"));
  EXPECT_GT(planted, 0);
  EXPECT_EQ(fetched(), kObjects + planted);
  EXPECT_TRUE(reads_all_right(3));
  EXPECT_EQ(fetched(), kObjects + planted) << "whole again, for another node too";
  EXPECT_EQ(stats()["spill_corrupt"] - before.at("spill_corrupt"), planted) << "which does not find the damage once more";
}

// On a cluster of three masters: what the loop has read goes first, and what it will read next stays, in the eyes of Redis. One node's
// process has the flusher, another one's only reads.
TEST_F(DatasetClusterNodes, TheOrderOfTheLoopDecidesWhatRedisEvictsFirst) {
  if (testing::is_redis_6()) GTEST_SKIP() << "Redis 6 cannot be told that a chunk was used: docs/cluster.md";
  RedisCluster redis{{.arguments = {"--maxmemory", "4mb", "--maxmemory-policy", "volatile-ttl"}}};
  const RedisKeys keys("alnair", "default");
  std::vector<std::string> names;
  for (const std::string& content : contents_) names.push_back(keys.chunk(content_hash(std::as_bytes(std::span(content)))));
  const auto client = redis::open(redis.url());
  const auto expiries = [&] {  // of objects; -1: has none
    std::vector<redis::Command> commands;
    for (const std::string& name : names) commands.push_back({.args = {"PEXPIRETIME", name}});
    std::vector<std::int64_t> all;
    for (const auto& result : client->call(std::move(commands))) all.push_back(result.ok() ? result.reply.integer : -2);
    return all;
  };
  DatasetOptions options = spilling_node(1, redis.url());
  options.cache.flush_policy = FlushOrder::kNextUse;
  options.cache.flush_frequency = std::chrono::milliseconds(200);
  std::vector<std::uint64_t> order(kObjects);
  std::iota(order.begin(), order.end(), 0);
  const auto first = Dataset::open(options);
  ASSERT_TRUE(read_all_right(*first, 1, true));
  first->flush();
  EXPECT_TRUE(testing::eventually([&] {  // the servers are more than half full
    const auto all = expiries();
    return std::count_if(all.begin(), all.end(), [](std::int64_t expiry) { return expiry > 0; }) >= kObjects / 2;
  }));
  // A new epoch begins, on another node, in the order of the numbers.
  options = spilling_node(2, redis.url() + "?flusher=false");
  options.cache.flush_policy = FlushOrder::kNextUse;
  const auto second = Dataset::open(options);
  second->prefetch(order);
  const std::span<const std::uint64_t> half(order.data(), kObjects / 2);
  for (std::size_t i = 0; i < half.size(); i += 4) {
    second->read_batch(half.subspan(i, 4));
    second->prefetch_advance(i + 4);
  }
  const auto read_ones_go_first = [&] {
    const auto all = expiries();
    std::int64_t latest_read = 0, earliest_other = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i] <= 0) continue;
      if (i < half.size())
        latest_read = std::max(latest_read, all[i]);
      else
        earliest_other = std::min(earliest_other, all[i]);
    }
    return latest_read > 0 && earliest_other < std::numeric_limits<std::int64_t>::max() && latest_read < earliest_other;
  };
  // Told as the loop goes on: reading them once more tells what was read before Redis was known to evict anything.
  EXPECT_TRUE(testing::eventually([&] {
    second->prefetch(order);
    second->prefetch_advance(half.size());
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return read_ones_go_first();
  }));
}

TEST_F(DatasetClusterNodes, AFlushOrTheEndOfTheServerMidEpochCostsNoSample) {
  RedisServer redis;
  ASSERT_EQ(status_of(start_node(1, redis.url(), 1, true)), 0);
  const auto dataset = Dataset::open(node(2, redis.url() + "?timeout_ms=1000&deadline_ms=3000"));
  EXPECT_TRUE(read_all_right(*dataset, 2, true, [&](std::size_t batch) {
    if (batch == 4) redis.command({"FLUSHALL"});
    if (batch == 9) redis.kill();
  }));
}

TEST_F(DatasetClusterNodes, AJobStartsAndReadsWithoutItsServers) {
  const auto dataset = Dataset::open(node(1, "redis://127.0.0.1:1?timeout_ms=1000&deadline_ms=2000"));
  EXPECT_TRUE(read_all_right(*dataset, 1, true));
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterNodes, AFullServerCostsFetchesAndNoSample) {
  RedisServer redis{{.arguments = {"--maxmemory", "3mb", "--maxmemory-policy", "noeviction"}}};
  std::vector<pid_t> children;
  for (int i = 0; i < kNodes; ++i) children.push_back(start_node(i, redis.url(), static_cast<unsigned>(i), true));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
}

TEST_F(DatasetClusterNodes, NodesThatAreKilledCostWhatTheyHadNotPassedOnAndLeaveNoLease) {
  const int kills = std::getenv("ALNAIR_TEST_STRESS") != nullptr ? 300 : 12;
  RedisServer redis;
  slow_source();
  std::mt19937 random(5);
  const auto unfilled = [&] {  // chunks that no node has passed on yet
    int told = 0;
    for (const auto& bucket : redis.command({"KEYS", "alnair:default:i:*"}).elements)
      told += static_cast<int>(redis.command({"HLEN", std::string(bucket.text())}).integer);
    return kObjects - told;
  };
  // Four at a time; who is killed comes back with what it has, or, each third time, as another one that has nothing.
  std::vector<int> numbers{0, 1, 2, 3};
  std::vector<pid_t> nodes;
  for (const int number : numbers) nodes.push_back(start_node(number, redis.url(), static_cast<unsigned>(number), true));
  int allowed = kObjects;
  for (int i = 0; i < kills; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 120));
    const std::size_t victim = random() % nodes.size();
    kill(nodes[victim], SIGKILL);
    const int status = status_of(nodes[victim]);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << "it was through before, and everything was right";
    allowed += unfilled();
    if (i % 3 == 2) numbers[victim] = 100 + i;
    nodes[victim] = start_node(numbers[victim], redis.url(), static_cast<unsigned>(i), i % 2 == 0);
    if (i % 40 == 20) redis.command({"FLUSHALL"}), allowed += 2 * kObjects;
  }
  for (const pid_t node : nodes) EXPECT_EQ(status_of(node), 0);
  EXPECT_LE(fetched(), allowed);
  EXPECT_TRUE(no_lease_is_left(redis));
  expect_whole_again(redis.url());
}

// The rules that docs/cluster.md gives for a job's user.
TEST_F(DatasetClusterNodes, AUserWithNoMoreThanTheDocumentedRightsWillDo) {
  RedisServer redis;
  redis.command({"ACL", "SETUSER", "job", "on", ">secret", "~alnair:default:*", "-@all", "+info", "+get", "+set",
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
  EXPECT_EQ(fetched(), kObjects);
  EXPECT_TRUE(no_lease_is_left(redis));
  EXPECT_EQ(stats()["redis_faults"], before.at("redis_faults"));
  const auto log = redis.command({"ACL", "LOG"});
  EXPECT_EQ(log.elements.size(), 0u) << "nothing was denied";
}

TEST_F(DatasetClusterNodes, RightsThatAreMissingAreNamedWhenItOpens) {
  RedisServer redis;
  const auto error_without = [&](const std::string& right, bool spill) {
    redis.command({"ACL", "SETUSER", "job", "reset", "on", ">secret", "~alnair:default:*", "+@all", "-" + right});
    const std::string url = "redis://job:secret@" + redis.address();
    static int number = 0;
    std::string said;
    set_log_sink([&](LogLevel, std::string_view message) { said += std::string(message) + "\n"; });
    try {
      const auto dataset = Dataset::open(spill ? spilling_node(++number, url) : node(++number, url));
      set_log_sink({});
      return "log: " + said;
    } catch (const AccessError& error) {
      set_log_sink({});
      return std::string(error.what());
    }
  };
  for (const char* right : {"get", "hmget"}) {
    const std::string error = error_without(right, false);
    EXPECT_EQ(error.find("log: "), std::string::npos) << error;
    std::string upper(right);
    std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
    EXPECT_NE(error.find("Denied are " + upper + ";"), std::string::npos) << error;
    EXPECT_NE(error.find("'job'"), std::string::npos) << error;
  }
  EXPECT_NE(error_without("hset", false).find("Denied are HSET;"), std::string::npos);
  EXPECT_NE(error_without("time", false).find("Denied are TIME;"), std::string::npos);
  EXPECT_NE(error_without("getrange", true).find("Denied are GETRANGE;"), std::string::npos);
  EXPECT_EQ(error_without("getrange", false).find("Denied"), std::string::npos) << "only a flusher needs it";
  redis.command({"ACL", "SETUSER", "job", "reset", "on", ">secret", "~other:*", "+@all"});
  EXPECT_THROW(Dataset::open(node(100, "redis://job:secret@" + redis.address())), AccessError);
}

TEST_F(DatasetClusterNodes, WhatNoWaitingMendsIsAnErrorThatNamesIt) {
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
