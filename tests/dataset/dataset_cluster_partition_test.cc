// The network between nodes and Redis, and between the servers, breaks while nodes read epochs: packets are lost, and nobody is
// told.
#include "dataset/cluster_support.h"
#include "support/private_network.h"

namespace alnair {
namespace {

using testing::eventually;
using testing::PrivateNetwork;
using testing::RedisCluster;

constexpr int kServers = 6;

// The network comes before everything that is to be in it.
struct WithNetwork {
  std::unique_ptr<PrivateNetwork> network = PrivateNetwork::make(kServers);
};

class DatasetClusterPartition : WithNetwork, public testing::DatasetCluster {
 protected:
  void SetUp() override {
    if (network == nullptr) GTEST_SKIP() << "this system allows no network namespaces (they need root): nothing can be cut off";
    redis_.emplace(testing::ClusterConfig{.replicas = 1,
                                          .node_timeout_ms = 1500,
                                          .arguments = {"--maxmemory", "256mb"},
                                          .places = network->hosts()});
    url_ = redis_->url() + "?timeout_ms=500&deadline_ms=3000";
    ASSERT_TRUE(fresh_node_reads_all_right(url_));
    ASSERT_EQ(fetched(), kObjects);
  }
  void cut_off(int server) { network->pull(server); }
  void join(int server) { network->plug(server); }

  std::optional<RedisCluster> redis_;
  std::string url_;
};

TEST_F(DatasetClusterPartition, AMasterIsCutOffFromEverybody) {
  read_during(url_, [&] {
    cut_off(0);
    EXPECT_TRUE(eventually([&] { return redis_->server(3).command({"ROLE"}).elements[0].text() == "master"; }));
    join(0);
    EXPECT_TRUE(eventually([&] { return redis_->server(0).command({"ROLE"}).elements[0].text() == "slave"; }));
    EXPECT_TRUE(redis_->wait_until_well());
  });
  expect_whole_again(url_);
}

TEST_F(DatasetClusterPartition, TheNodesAreCutOffFromAllServers) {
  read_during(url_, [&] {
    for (int i = 0; i < kServers; ++i) cut_off(i);
    EXPECT_TRUE(fresh_node_reads_all_right(url_)) << "it starts, and reads, by itself";
    for (int i = 0; i < kServers; ++i) join(i);
    EXPECT_TRUE(redis_->wait_until_well());
  });
  expect_whole_again(url_);
}

}  // namespace
}  // namespace alnair
