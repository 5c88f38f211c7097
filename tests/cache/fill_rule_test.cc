// In which order Redis and the shared directory are filled, under every policy of eviction, on real Redis.
#include "cache/redis/fill_rule.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "alnair/core/stats.h"
#include "cache/directory/spill_tier.h"
#include "cache/redis/cluster_over_redis.h"
#include "cache/redis/flusher.h"
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
using testing::disk::make_chunks;
using Order = FillRule::Order;

redis::ServerFacts facts(const std::string& policy, std::uint64_t used = 10, std::uint64_t maxmemory = 100) {
  redis::ServerFacts result;
  result.maxmemory_policy = policy;
  result.used_memory = used;
  result.maxmemory = maxmemory;
  return result;
}

TEST(FillRuleTest, FollowsFromThePolicy) {
  struct Case {
    const char* policy;
    bool directory, relied_on;
    Order order;
    bool expiring;
  };
  for (const auto& [policy, directory, relied_on, order, expiring] : std::initializer_list<Case>{
           {"noeviction", true, true, Order::kSideBySide, false},
           {"noeviction", false, false, Order::kSideBySide, false},
           {"volatile-ttl", true, false, Order::kRedisFirst, false},
           {"volatile-ttl", false, true, Order::kSideBySide, false},
           {"volatile-ttl", false, false, Order::kSideBySide, true},
           {"volatile-lru", true, true, Order::kDirectoryFirst, true},
           {"volatile-random", false, false, Order::kSideBySide, true},
           {"allkeys-lru", true, false, Order::kDirectoryFirst, false},
           {"allkeys-lfu", false, false, Order::kSideBySide, false},
           {"mixed", true, true, Order::kDirectoryFirst, false},
           {"", true, false, Order::kDirectoryFirst, false},
           {"", false, false, Order::kSideBySide, false}}) {
    const FillRule rule = fill_rule(facts(policy), directory, relied_on);
    EXPECT_EQ(rule.order, order) << policy;
    EXPECT_EQ(rule.expiring, expiring) << policy;
    EXPECT_FALSE(rule.full);
  }
}

TEST(FillRuleTest, StopsAtTheMarkWhereNothingIsEvicted) {
  EXPECT_FALSE(fill_rule(facts("noeviction", 94), true, false).full);
  EXPECT_TRUE(fill_rule(facts("noeviction", 95), false, false).full);
  EXPECT_FALSE(fill_rule(facts("volatile-ttl", 100), true, false).full);
  EXPECT_FALSE(fill_rule(facts("noeviction", 100, 0), false, false).full) << "no maxmemory";
  EXPECT_EQ(fill_rule(facts("allkeys-lru", 100, 0), true, false).order, Order::kSideBySide) << "evicts nothing then";
}

class FillTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kBytes = 100'000;

  // What a job of a node does with what it fetched; `directory` may be null.
  struct Node {
    Node(const RedisServer& server, std::shared_ptr<DurableTier> with) : directory(std::move(with)), client(redis::open(server.url())) {
      (void)client->check();
      tier = std::make_shared<RedisTier>(client, keys);
      cluster = std::make_unique<ClusterOverRedis>(client, keys, tier, 64u << 20, Leases::Timing(), directory);
    }
    void publish(const std::vector<PutRequest>& chunks) const {
      std::vector<Cluster::Fetched> fetched;
      for (const auto& chunk : chunks) {
        ChunkId id;
        std::copy_n(chunk.hash.bytes.begin(), id.bytes.size(), id.bytes.begin());
        fetched.push_back({id, chunk});
      }
      cluster->publish(std::move(fetched));
      cluster->flush();
    }
    const RedisKeys keys{"test", "default"};
    const std::shared_ptr<DurableTier> directory;
    const std::shared_ptr<redis::Client> client;
    std::shared_ptr<RedisTier> tier;
    std::unique_ptr<ClusterOverRedis> cluster;
  };

  void use(const std::string& policy, const std::string& maxmemory = "20mb") {
    server_.command({"CONFIG", "SET", "maxmemory", maxmemory});
    server_.command({"CONFIG", "SET", "maxmemory-policy", policy});
  }
  std::shared_ptr<DurableTier> directory(int number, std::uint64_t limit = 256u << 20, std::shared_ptr<FileSystem> files = nullptr) {
    SpillOptions options;
    options.directories = {root_ / "nfs"};
    options.node_directory = root_ / ("node" + std::to_string(number));
    options.limit_bytes = limit;
    options.key_namespace = "test";
    options.files = std::move(files);
    options.before_drop = [client = client_](std::span<const ContentHash> hashes) {
      return Flusher::keep_in_redis(*client, RedisKeys("test", "default"), hashes);
    };
    return open_spill(options);
  }
  // 40 MB in all, into 20.
  static std::vector<std::vector<PutRequest>> batches() {
    std::vector<std::vector<PutRequest>> all;
    for (std::uint64_t batch = 0; batch < 40; ++batch) all.push_back(make_chunks(10, kBytes, batch));
    return all;
  }
  std::uint64_t info(const std::string& section, const std::string& name) {
    const std::string text = server_.text({"INFO", section});
    return std::stoull(text.substr(text.find(name + ":") + name.size() + 1));
  }
  std::int64_t ttl(const PutRequest& chunk) {
    return server_.command({"PTTL", RedisKeys("test", "default").chunk(chunk.hash)}).integer;
  }

  TemporaryDirectory root_;
  RedisServer server_;
  const std::shared_ptr<redis::Client> client_ = redis::open(server_.url());
};

class DirectoryFirstTest : public FillTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(DirectoryFirstTest, WhatMayBeEvictedIsDurableBefore) {
  use(GetParam());
  std::vector<PutRequest> all;
  const Node node(server_, directory(1));
  EXPECT_TRUE(node.cluster->fills_directory());
  for (const auto& chunks : batches()) {
    node.publish(chunks);
    all.insert(all.end(), chunks.begin(), chunks.end());
  }
  EXPECT_GT(info("stats", "evicted_keys"), 50u);
  EXPECT_GT(count_hits(*node.tier, all), 50u);
  EXPECT_EQ(count_hits(*directory(2), all), all.size()) << "in the eyes of another host";
}

TEST_P(DirectoryFirstTest, RedisGetsNothingThatTheDirectoryRefuses) {
  use(GetParam());
  const Node node(server_, directory(1, 3u << 20));
  std::vector<PutRequest> all;
  for (std::uint64_t batch = 0; batch < 6; ++batch) {
    const auto chunks = make_chunks(10, kBytes, batch);
    node.publish(chunks);
    all.insert(all.end(), chunks.begin(), chunks.end());
  }
  node.cluster->close();  // and what was dropped again is deleted
  std::vector<PutRequest> there;
  for (const auto& chunk : all)
    if (server_.command({"EXISTS", node.keys.chunk(chunk.hash)}).integer == 1) there.push_back(chunk);
  EXPECT_GT(there.size(), 0u);
  EXPECT_LT(there.size(), all.size());
  EXPECT_EQ(count_hits(*directory(2, 3u << 20), there), there.size());
}

TEST_P(DirectoryFirstTest, AKillAtAnyCallLeavesNothingInRedisThatIsNotDurable) {
  use(GetParam());
  const auto chunks = make_chunks(10, 10'000, 1);
  bool killed = true;
  int step = 0;
  for (; killed; ++step) {
    std::filesystem::remove_all(root_ / "nfs");
    server_.command({"FLUSHALL"});
    const pid_t child = fork();
    if (child == 0) {
      const auto calls = std::make_shared<std::atomic<int>>(0);
      {
        const Node node(server_, directory(1, 256u << 20, std::make_shared<HookedFileSystem>([calls, step](std::string_view, const auto&) {
                          if ((*calls)++ == step) kill(getpid(), SIGKILL);
                          return 0;
                        })));
        node.publish(chunks);
        node.cluster->close();
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    killed = WIFSIGNALED(status);
    std::vector<PutRequest> there;
    for (const auto& chunk : chunks)
      if (server_.command({"EXISTS", RedisKeys("test", "default").chunk(chunk.hash)}).integer == 1) there.push_back(chunk);
    EXPECT_TRUE(killed || there.size() == 10u);
    EXPECT_EQ(count_hits(*directory(100 + step), there), there.size()) << step;
  }
  EXPECT_GT(step, 10);
}

INSTANTIATE_TEST_SUITE_P(Policies, DirectoryFirstTest, ::testing::Values("allkeys-lru", "allkeys-lfu", "volatile-lru"),
                         [](const auto& policy) {
                           std::string name = policy.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_F(FillTest, WithoutADirectoryVolatileTtlEvictsWhatWasWrittenLongestAgo) {
  use("volatile-ttl");
  const Node node(server_, nullptr);
  for (const auto& chunks : batches()) node.publish(chunks);
  EXPECT_GT(info("stats", "evicted_keys"), 50u);
  const auto last = make_chunks(10, kBytes, 1000);
  node.publish(last);
  for (const auto& chunk : last) EXPECT_GT(ttl(chunk), 2'000'000'000'000);
}

TEST_F(FillTest, AJobWithoutTheDirectoryThatVouchesForTheNamespaceSetsNoExpiry) {
  use("volatile-ttl");
  server_.command({"SET", "test:default:directory", "somebody's"});
  const Node node(server_, nullptr);
  EXPECT_TRUE(eventually([&, batch = 0u]() mutable {
    const auto chunks = make_chunks(1, 1000, ++batch);  // the first ones may come before the servers have answered
    node.publish(chunks);
    return ttl(chunks[0]) == -1;
  }));
}

TEST_F(FillTest, UnderVolatileTtlTheDirectoryGetsOnlyWhatRedisRefuses) {
  use("volatile-ttl");
  const Node node(server_, directory(1));
  EXPECT_TRUE(eventually([&, batch = 1000u]() mutable {  // until the policy is known
    const auto chunks = make_chunks(1, 1000, ++batch);
    node.publish(chunks);
    return count_hits(*directory(3), chunks) == 0;
  }));
  std::vector<PutRequest> all;
  for (const auto& chunks : batches()) {
    node.publish(chunks);
    all.insert(all.end(), chunks.begin(), chunks.end());
  }
  EXPECT_EQ(info("stats", "evicted_keys"), 0u);
  const std::size_t in_redis = count_hits(*node.tier, all), in_directory = count_hits(*directory(2), all);
  EXPECT_GT(in_redis, 50u);
  EXPECT_EQ(in_redis + in_directory, all.size());
}

TEST_F(FillTest, UnderNoevictionTheFillStopsAtTheMarkAndNothingFails) {
  use("noeviction");
  const auto before = stats();
  const Node node(server_, nullptr);
  for (const auto& chunks : batches()) node.publish(chunks);
  EXPECT_EQ(server_.text({"INFO", "errorstats"}).find("OOM"), std::string::npos) << "nothing was refused";
  EXPECT_GT(info("memory", "used_memory"), 17u << 20);
  EXPECT_EQ(stats()["redis_faults"], before.at("redis_faults"));
  EXPECT_GT(stats()["redis_refused"], before.at("redis_refused"));
}

TEST_F(FillTest, APolicyThatIsChangedCountsSoon) {
  use("noeviction");
  const auto watch = std::make_shared<FillWatch>(client_, RedisKeys("test", "default"), true, 10ms);
  EXPECT_TRUE(eventually([&] { return watch->rule().order == Order::kSideBySide; }));
  use("allkeys-lru");
  EXPECT_TRUE(eventually([&] { return watch->rule().order == Order::kDirectoryFirst; }));
  use("volatile-ttl");
  EXPECT_TRUE(eventually([&] { return watch->rule().order == Order::kRedisFirst; }));
}

TEST_F(FillTest, WhatLeavesTheDirectoryIsDeletedWhereBeingPersistentDoesNotProtectIt) {
  use("allkeys-lru");
  const auto chunks = make_chunks(5, kBytes, 1);
  const Node node(server_, directory(1));
  node.publish(chunks);
  ASSERT_EQ(count_hits(*node.tier, chunks), 5u);
  EXPECT_TRUE(Flusher::keep_in_redis(*node.client, node.keys, disk::hashes_of(chunks)));
  EXPECT_EQ(count_hits(*node.tier, chunks), 0u);
}

// A directory that loses what it has at a moment of the test's choosing.
class ForgetfulDirectory : public DurableTier {
 public:
  std::string_view name() const override { return "forgetful"; }
  void get(std::span<const ContentHash> hashes, Found found) override {
    for (std::size_t i = 0; i < hashes.size(); ++i) found(i, std::nullopt);
  }
  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override { durable(hashes, present); }
  void put(std::span<const PutRequest>, std::span<PutOutcome>) override {}
  void erase(const ContentHash&) override {}
  TierUsage usage() const override { return {}; }
  std::string identity() override { return "forgetful"; }
  void durable(std::span<const ContentHash> hashes, std::span<bool> durable) override {
    ++looks_;
    std::fill_n(durable.begin(), hashes.size(), looks_ == 1);
  }

 private:
  int looks_ = 0;  // the writer's thread alone looks
};

TEST_F(FillTest, WhatTheDirectoryDropsWhileItIsStoredIsDeletedAgain) {
  use("allkeys-lru");
  const auto chunks = make_chunks(3, 1000, 1);
  const Node node(server_, std::make_shared<ForgetfulDirectory>());
  node.publish(chunks);
  node.cluster->close();
  EXPECT_TRUE(eventually([&] { return count_hits(*node.tier, chunks) == 0; }));
}

}  // namespace
}  // namespace alnair
