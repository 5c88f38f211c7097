// The client over clusters that change while it reads.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "alnair/core/error.h"
#include "redis/client.h"
#include "redis/slot_map.h"
#include "support/redis_servers.h"

namespace alnair::redis {
namespace {

using std::chrono::steady_clock;
using testing::eventually;
using ::testing::HasSubstr;
using testing::RedisCluster;
using testing::RedisServer;

std::string key_of(int i) { return fmt::format("alnair:default:{}", i); }
std::string value_of(int i) {
  return fmt::format("value {} {}", i, std::string(2'000, static_cast<char>('a' + i % 26)));
}

void fill(Client& redis, int count) {
  std::vector<Command> writes;
  for (int i = 0; i < count; ++i) writes.push_back({.args = {"SET", key_of(i), value_of(i)}});
  for (const Result& result : redis.call(std::move(writes))) ASSERT_TRUE(result.ok()) << result.message;
}

struct Read {
  int good = 0, missing = 0, wrong = 0;
  std::map<Failure, int> failed;
  std::string message;  // of one that failed
  steady_clock::duration took{};
};

Read read_all(Client& redis, int count) {
  std::vector<std::string> keys;
  for (int i = 0; i < count; ++i) keys.push_back(key_of(i));
  Read read;
  const auto start = steady_clock::now();
  const std::vector<Result> results = redis.call_get(std::move(keys));
  read.took = steady_clock::now() - start;
  for (int i = 0; i < count; ++i) {
    const Result& result = results[static_cast<std::size_t>(i)];
    if (!result.ok()) {
      ++read.failed[result.failure];
      read.message = result.message;
    } else if (result.reply.is_nil()) {
      ++read.missing;
    } else {
      ++(result.reply.text() == value_of(i) ? read.good : read.wrong);
    }
  }
  return read;
}

// The number behind `name` in a section of INFO; 0: it is not there.
int counted(RedisServer& server, const std::string& section, const std::string& name) {
  const std::string stats = server.text({"INFO", section});
  const std::size_t at = stats.find(name);
  return at == std::string::npos ? 0 : std::atoi(stats.c_str() + stats.find('=', at) + 1);
}

int errors_of(RedisServer& server, const std::string& code) {
  return counted(server, "errorstats", "errorstat_" + code + ":count=");
}

TEST(RedisCluster, SlotsMoveWhileAJobReads) {
  RedisCluster cluster;
  const auto redis = open(cluster.url());
  constexpr int kCount = 600;
  fill(*redis, kCount);
  const auto idle = open(cluster.url());
  EXPECT_EQ(read_all(*idle, kCount).good, kCount);
  std::atomic<bool> moved{false};
  std::string problem;
  std::thread mover([&] {
    try {
      cluster.reshard(0, 1, 500);
      cluster.reshard(1, 2, 200);
    } catch (const std::exception& error) {
      problem = error.what();
    }
    moved = true;
  });
  int rounds = 0;
  do {
    Read read = read_all(*redis, kCount);
    // For a moment two nodes of Redis 6 may each say that the other one has the slot.
    EXPECT_EQ(read.good + (testing::is_redis_6() ? read.failed[Failure::kUnavailable] : 0), kCount) << read.message;
    ++rounds;
  } while (!moved || rounds < 3);
  mover.join();
  EXPECT_EQ(problem, "");
  EXPECT_EQ(read_all(*redis, kCount).good, kCount);

  if (testing::is_redis_6()) return;  // it counts no errors
  // One whose map is old: many of its commands are redirected, and it asks for a new map once for all of them.
  const auto sum = [&](const std::string& section, const std::string& name) {
    return counted(cluster.server(0), section, name) + counted(cluster.server(1), section, name) +
           counted(cluster.server(2), section, name);
  };
  const int redirected = sum("errorstats", "errorstat_MOVED:count="),
            maps = sum("commandstats", "cmdstat_cluster|shards:calls=");
  EXPECT_EQ(read_all(*idle, kCount).good, kCount);
  const int more_redirected = sum("errorstats", "errorstat_MOVED:count=") - redirected;
  EXPECT_GT(more_redirected, 4);
  EXPECT_LT(sum("commandstats", "cmdstat_cluster|shards:calls=") - maps, more_redirected / 2);
  fill(*redis, kCount);
}

// A slot in between: its keys are asked for at the node that they move to. By a user with no more rights than
// docs/redis.md gives the client, and those of the commands that are run here.
TEST(RedisCluster, AskIsFollowedForOneCommandOnly) {
  RedisCluster cluster;
  cluster.on_masters({"ACL", "SETUSER", "job", "on", ">secret", "~alnair:default:*", "-@all",
                      "+cluster|shards", "+cluster|slots", "+asking", "+info", "+get", "+set", "+mget"});
  const auto redis = open("redis://job:secret@" + cluster.url().substr(8));
  fill(*redis, 100);
  int key = 0;
  while (cluster.master_of(slot_of(key_of(key))) != 0) ++key;
  const std::string slot = std::to_string(slot_of(key_of(key)));
  const std::string from = cluster.server(0).text({"CLUSTER", "MYID"}),
                    to = cluster.server(1).text({"CLUSTER", "MYID"});
  cluster.server(1).command({"CLUSTER", "SETSLOT", slot, "IMPORTING", from});
  cluster.server(0).command({"CLUSTER", "SETSLOT", slot, "MIGRATING", to});
  cluster.server(0).command(
      {"MIGRATE", "127.0.0.1", std::to_string(cluster.server(1).port()), key_of(key), "0", "5000"});
  EXPECT_EQ(read_all(*redis, 100).good, 100);
  EXPECT_EQ(read_all(*redis, 100).good, 100);
  const bool counts_errors = !testing::is_redis_6();
  if (counts_errors) {
    EXPECT_EQ(errors_of(cluster.server(0), "ASK"), 2) << "the slot's owner is asked first each time";
  }
  // A command with keys on both sides must wait until they are on one: here, for longer than the client tries.
  const Result both = redis->call({.args = {"MGET", key_of(key), "alnair:default:{" + key_of(key) + "}"}});
  EXPECT_EQ(both.failure, Failure::kUnavailable);
  EXPECT_THAT(both.message, HasSubstr("TRYAGAIN"));
  if (counts_errors) {
    EXPECT_GT(errors_of(cluster.server(1), "TRYAGAIN"), 1) << "it was tried again";
  }
}

TEST(RedisCluster, AReplicaTakesTheDeadMastersPlace) {
  RedisCluster cluster({.replicas = 1, .node_timeout_ms = 1000});
  const auto redis = open(cluster.url() + "?timeout_ms=3000");
  constexpr int kCount = 300;
  fill(*redis, kCount);
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(eventually([&] {
      return cluster.server(i + 3).command({"DBSIZE"}).integer == cluster.server(i).command({"DBSIZE"}).integer;
    }));
  cluster.server(0).kill();
  const Read read = read_all(*redis, kCount);
  EXPECT_EQ(read.wrong + read.missing, 0);
  EXPECT_TRUE(eventually([&] { return read_all(*redis, kCount).good == kCount; }))
      << "the client finds the new master by itself";
  EXPECT_TRUE(redis->call({.args = {"SET", key_of(0), value_of(0)}}).ok());
}

TEST(RedisCluster, RestartsOneNodeAfterTheOtherWhileAJobReads) {
  RedisCluster cluster({.replicas = 1});
  const auto redis = open(cluster.url() + "?timeout_ms=5000");
  constexpr int kCount = 200;
  fill(*redis, kCount);
  std::atomic<int> wrong{0};
  std::jthread reader([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) wrong += read_all(*redis, kCount).wrong;
  });
  // As an administrator does it: hand the shard to its replica, restart, wait until it follows.
  for (int i = 0; i < 3; ++i) {
    const int first = 16384 * i / 3;
    ASSERT_TRUE(eventually([&] {
      return cluster.server(i + 3).command({"DBSIZE"}).integer == cluster.server(i).command({"DBSIZE"}).integer;
    }));
    // A busy machine may let it miss its own deadline of five seconds: then it is asked for again.
    auto asked = steady_clock::time_point::min();
    ASSERT_TRUE(eventually([&] {
      if (cluster.master_of(first, i + 3) == i + 3) return true;
      if (steady_clock::now() > asked + std::chrono::seconds(6)) {
        cluster.server(i + 3).command({"CLUSTER", "FAILOVER"});
        asked = steady_clock::now();
      }
      return false;
    }));
    cluster.server(i).start_again();
    ASSERT_TRUE(cluster.wait_until_well());
  }
  reader.request_stop();
  reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(eventually([&] { return read_all(*redis, kCount).good == kCount; })) << "nothing was lost on the way";
}

TEST(RedisCluster, ANodeThatComesBackEmptyHasMisses) {
  RedisCluster cluster({.node_timeout_ms = 60'000});
  const auto redis = open(cluster.url());
  constexpr int kCount = 300;
  fill(*redis, kCount);
  const auto lost = static_cast<int>(cluster.server(0).command({"DBSIZE"}).integer);
  cluster.server(0).kill();
  const Read down = read_all(*redis, kCount);
  EXPECT_EQ(down.failed.at(Failure::kUnavailable), lost) << "of that node's keys, and of no others";
  EXPECT_EQ(down.good, kCount - lost);
  EXPECT_THAT(down.message, HasSubstr(cluster.server(0).address()));
  cluster.server(0).start_again();
  EXPECT_TRUE(eventually([&] {
    const Read read = read_all(*redis, kCount);
    return read.missing == lost && read.good == kCount - lost;
  }));
}

TEST(RedisCluster, ReplicasAreReadWhileTheirMasterIsGone) {
  RedisCluster cluster({.replicas = 1, .node_timeout_ms = 60'000});  // nobody takes over
  cluster.on_masters({"ACL", "SETUSER", "job", "on", ">secret", "~*", "-@all", "+cluster|shards", "+cluster|slots", "+get", "+readonly"});
  cluster.server(3).command({"ACL", "SETUSER", "job", "on", ">secret", "~*", "-@all", "+cluster|shards", "+cluster|slots", "+get", "+readonly"});
  const auto redis = open(cluster.url()), job = open("redis://job:secret@" + cluster.server(1).address());
  constexpr int kCount = 300;
  fill(*redis, kCount);
  ASSERT_TRUE(eventually([&] {
    return cluster.server(3).command({"DBSIZE"}).integer == cluster.server(0).command({"DBSIZE"}).integer;
  }));
  ASSERT_EQ(read_all(*job, kCount).good, kCount);
  cluster.server(0).kill();
  for (const auto& client : {redis, job})
    EXPECT_TRUE(eventually([&] { return read_all(*client, kCount).good == kCount; })) << read_all(*client, kCount).message;
  int lost = 0;
  while (cluster.master_of(slot_of(key_of(lost)), 1) != 0) ++lost;
  EXPECT_EQ(redis->call({.args = {"SET", key_of(lost), "x"}}).failure, Failure::kUnavailable) << "nor is anything written to them";
  EXPECT_EQ(redis->call({.args = {"STRLEN", key_of(lost)}}).failure, Failure::kUnavailable);
  EXPECT_TRUE(eventually([&] {
    return redis->call({.args = {"STRLEN", key_of(lost)}, .of_replica = true}).reply.integer ==
           static_cast<std::int64_t>(value_of(lost).size());
  }));
}

TEST(RedisCluster, AFrozenNodeCostsOneStall) {
  RedisCluster cluster({.node_timeout_ms = 60'000});
  const auto redis = open(cluster.url() + "?timeout_ms=3000&deadline_ms=60000");
  constexpr int kCount = 1'000;
  fill(*redis, kCount);
  const auto frozen = static_cast<int>(cluster.server(2).command({"DBSIZE"}).integer);
  cluster.server(2).freeze();
  const Read first = read_all(*redis, kCount);
  EXPECT_EQ(first.good, kCount - frozen);
  EXPECT_GE(first.took, std::chrono::milliseconds(2'900));
  const Read second = read_all(*redis, kCount);
  EXPECT_EQ(second.good, kCount - frozen) << second.message;
  EXPECT_LT(second.took, std::chrono::milliseconds(2'900)) << "nobody waits for it again";
  cluster.server(2).thaw();
  EXPECT_TRUE(eventually([&] { return read_all(*redis, kCount).good == kCount; })) << "a probe finds it well again";
}

TEST(RedisCluster, UncoveredSlotsAreNamed) {
  RedisCluster cluster({.arguments = {"--cluster-require-full-coverage", "no"}});
  std::vector<std::string> remove = {"CLUSTER", "DELSLOTS"};
  for (int slot = 100; slot < 200; ++slot) remove.push_back(std::to_string(slot));
  for (int i = 0; i < 3; ++i) cluster.server(i).command(remove);
  const auto redis = open(cluster.server(1).url());
  EXPECT_TRUE(eventually([&] {
    try {
      redis->check();
    } catch (const CacheError& error) {
      return std::string_view(error.what()).find("serves the hash slots 100-199.") != std::string_view::npos;
    }
    return false;
  }));
  int covered = 0, uncovered = 0;
  while (slot_of(key_of(uncovered)) < 100 || slot_of(key_of(uncovered)) > 199) ++uncovered;
  while (slot_of(key_of(covered)) >= 100 && slot_of(key_of(covered)) <= 199) ++covered;
  EXPECT_TRUE(redis->call({.args = {"SET", key_of(covered), "x"}}).ok());
  EXPECT_EQ(redis->call({.args = {"SET", key_of(uncovered), "x"}}).failure, Failure::kUnavailable);
}

TEST(RedisCluster, AUserWhoMayNotSeeTheMapIsToldSo) {
  RedisCluster cluster({.masters = 1});
  cluster.on_masters({"ACL", "SETUSER", "job", "on", ">secret", "~*", "+get"});
  try {
    open("redis://job:secret@" + cluster.server(0).address())->check();
    FAIL() << "no error";
  } catch (const AccessError& error) {
    EXPECT_THAT(error.what(), HasSubstr(testing::is_redis_6() ? "'cluster' command" : "'cluster|slots' command"));
  }
}

TEST(RedisCluster, SeedsOfTwoClustersAreRefused) {
  RedisCluster one({.masters = 1}), two({.masters = 1});
  const auto redis = open(one.url() + "," + two.server(0).address());
  try {
    redis->check();
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("do not belong together: they are of two clusters"));
  }
  EXPECT_EQ(redis->call({.args = {"GET", "x"}}).failure, Failure::kUnsupported);
}

TEST(RedisCluster, OneSeedThatWorksIsEnough) {
  RedisCluster cluster({.masters = 1});
  RedisServer gone;
  gone.kill();
  const auto redis = open(fmt::format("redis://{},{}", gone.address(), cluster.server(0).address()));
  EXPECT_EQ(redis->check().mode, Mode::kCluster);
}

TEST(RedisCluster, IsNotWhatModeStandaloneMeans) {
  RedisCluster cluster({.masters = 1});
  try {
    open(cluster.url() + "?mode=standalone")->check();
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("is part of a cluster, whose other nodes mode=standalone does not reach"));
  }
}

}  // namespace
}  // namespace alnair::redis
