// What becomes of a Redis Cluster while nodes read epochs through it: they get the same samples, and fetch no more than what was
// lost. These tests share one cluster of three masters with a replica each; each leaves it well.
#include <algorithm>
#include <cstdlib>
#include <random>

#include "dataset/cluster_support.h"

namespace alnair {
namespace {

using testing::eventually;
using testing::RedisCluster;

class DatasetClusterTrouble : public testing::DatasetCluster {
 protected:
  static constexpr std::size_t kMasters = 3;

  static void SetUpTestSuite() {
    cluster_ = new RedisCluster{
        {.masters = kMasters, .replicas = 1, .node_timeout_ms = 2000, .arguments = {"--maxmemory", "256mb"}}};
  }
  static void TearDownTestSuite() { delete std::exchange(cluster_, nullptr); }

  void SetUp() override {
    ASSERT_TRUE(cluster_->wait_until_well());
    flush_all();
    ASSERT_TRUE(fresh_node_reads_all_right(url()));
    ASSERT_EQ(fetched(), kObjects);
  }

  static std::string url(const std::string& options = "") { return cluster_->url() + options; }
  static void flush_all() {
    for (int i = 0; i < cluster_->size(); ++i) cluster_->server(i).command({"FLUSHALL"});  // a replica refuses
  }
  // A server that was a master, and is back, may not have heard yet that it is none any more.
  static std::vector<int> masters() {
    std::vector<int> found;
    EXPECT_TRUE(eventually([&] {
      found.clear();
      for (int i = 0; i < cluster_->size(); ++i)
        if (cluster_->server(i).command({"ROLE"}).elements.at(0).text() == "master") found.push_back(i);
      return found.size() == kMasters;
    }));
    return found;
  }
  static int replica_of(int master) {
    int found = -1;
    EXPECT_TRUE(eventually([&] {
      const auto replicas = cluster_->server(master).command({"ROLE"}).elements.at(2).elements;
      for (int i = 0; !replicas.empty() && i < cluster_->size(); ++i)
        if (std::to_string(cluster_->server(i).port()) == replicas[0].elements.at(1).text()) found = i;
      return found >= 0;
    }));
    return found;
  }

  bool becomes(int server, const char* role) {
    return eventually([&] { return cluster_->server(server).command({"ROLE"}).elements.at(0).text() == role; });
  }

  // What may happen. Each leaves the cluster well.
  void move_slots() {
    const auto all = masters();
    cluster_->reshard(all[0], all[1], 700);
    cluster_->reshard(all[1], all[0], 700);
  }
  void fail_over() {
    const int victim = masters()[0], heir = replica_of(victim);
    cluster_->server(victim).kill();
    EXPECT_TRUE(becomes(heir, "master"));
    cluster_->server(victim).start_again();
    EXPECT_TRUE(cluster_->wait_until_well());
  }
  void lose_the_memory_of_a_master() {
    cluster_->server(masters()[0]).start_again();  // before anybody takes over
    EXPECT_TRUE(cluster_->wait_until_well());
  }
  void restart_one_after_another() {
    for (const int master : masters()) {
      const int heir = replica_of(master);
      EXPECT_EQ(cluster_->server(heir).text({"CLUSTER", "FAILOVER"}), "OK");
      EXPECT_TRUE(becomes(heir, "master"));
      EXPECT_TRUE(becomes(master, "slave"));
      cluster_->server(master).start_again();
      EXPECT_TRUE(cluster_->wait_until_well());
    }
  }
  void sleep(const char* seconds) {
    for (const int master : masters()) cluster_->server(master).command({"DEBUG", "SLEEP", seconds});
  }
  void pause() {
    for (const int master : masters()) {
      cluster_->server(master).command({"CLIENT", "PAUSE", "700", "ALL"});
      cluster_->server(master).command({"PING"});  // answered when the pause is over
    }
  }

  static RedisCluster* cluster_;
};

RedisCluster* DatasetClusterTrouble::cluster_ = nullptr;

TEST_F(DatasetClusterTrouble, SlotsMoveBetweenMasters) {
  read_during(url(), [&] { move_slots(); });
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterTrouble, AMasterIsKilledAndItsReplicaTakesOver) {
  read_during(url("?timeout_ms=1000&deadline_ms=5000"), [&] { fail_over(); });
  expect_whole_again(url());
}

TEST_F(DatasetClusterTrouble, AMasterComesBackWithoutItsMemory) {
  read_during(url(), [&] { lose_the_memory_of_a_master(); });
  expect_whole_again(url());
}

TEST_F(DatasetClusterTrouble, OneServerAfterAnotherIsRestarted) {
  read_during(url(), [&] { restart_one_after_another(); });
  EXPECT_LE(fetched(), 2 * kObjects) << "what asks a server just when it goes may be fetched, once";
  expect_whole_again(url());
}

TEST_F(DatasetClusterTrouble, MastersSleepForAMoment) {
  read_during(url(), [&] { sleep("0.7"); });
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterTrouble, MastersSleepForLongerThanANodeWaits) {
  const std::string impatient = url("?timeout_ms=200&deadline_ms=1000");
  read_during(impatient, [&] { sleep("1.2"); });
  expect_whole_again(impatient);
}

TEST_F(DatasetClusterTrouble, ClientsArePaused) {
  read_during(url(), [&] { pause(); });
  EXPECT_EQ(fetched(), kObjects);
}

TEST_F(DatasetClusterTrouble, EverythingIsFlushed) {
  read_during(url(), [&] { flush_all(); });
  EXPECT_LE(fetched(), 3 * kObjects) << "a chunk may be fetched between the flush of its value and of its index entry";
  expect_whole_again(url());
}

TEST_F(DatasetClusterTrouble, OneTroubleFollowsAnother) {
  if (std::getenv("ALNAIR_TEST_STRESS") == nullptr) GTEST_SKIP() << "takes minutes: tests/run --stress";
  const std::vector<std::function<void()>> troubles{
      [&] { move_slots(); }, [&] { fail_over(); },   [&] { lose_the_memory_of_a_master(); }, [&] { restart_one_after_another(); },
      [&] { sleep("3"); },   [&] { flush_all(); }, [&] { pause(); }};
  std::mt19937 random(1);
  for (int i = 0; i < 40; ++i) {
    read_during(url("?timeout_ms=1000&deadline_ms=5000"), troubles[random() % troubles.size()]);
    expect_whole_again(url());
  }
}

}  // namespace
}  // namespace alnair
