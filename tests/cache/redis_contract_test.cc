// The tier contract on Redis: one server, a cluster, and a proxy in front of servers.
#include "cache/redis/redis_tier.h"
#include "cache/tier_contract.h"
#include "support/redis_servers.h"

namespace alnair::testing {
namespace {

struct Single {
  RedisServer server{{.arguments = {"--maxmemory", "256mb"}}};
  std::string url() const { return server.url(); }
};
struct ThreeMasters {
  RedisCluster cluster;
  std::string url() const { return cluster.url(); }
};
struct Proxied {
  RedisServer one, two;
  RedisProxy proxy{{&one, &two}};
  std::string url() const { return proxy.url() + "?mode=proxy"; }
};

template <typename Servers>
struct RedisContract {
  // Started before a test forks, and shared by all tests of the process: each has a domain of its own.
  static const Servers& servers() {
    static const Servers started;
    return started;
  }
  static std::string base() { return servers(), std::filesystem::temp_directory_path(); }
  static constexpr std::uint64_t kLimit = 16 << 20;
  static constexpr bool kHoldsDatasets = false;
  static constexpr bool kLimitIsTheServers = true;
  static std::shared_ptr<Tier> open(const std::string& directory, std::uint64_t) {
    return std::make_shared<RedisTier>(redis::open(servers().url()), RedisKeys("test", directory));
  }
};

INSTANTIATE_TYPED_TEST_SUITE_P(Redis, TierContract, RedisContract<Single>);
INSTANTIATE_TYPED_TEST_SUITE_P(RedisThreeMasters, TierContract, RedisContract<ThreeMasters>);
INSTANTIATE_TYPED_TEST_SUITE_P(RedisProxy, TierContract, RedisContract<Proxied>);

}  // namespace
}  // namespace alnair::testing
