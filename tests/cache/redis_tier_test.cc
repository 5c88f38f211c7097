// The Redis tier: what lies there, what is made of wrong bytes, of full servers and of servers that are gone.
#include "cache/redis/redis_tier.h"

#include <gmock/gmock.h>

#include "alnair/core/error.h"
#include "cache/tier_contract.h"
#include "core/metrics.h"
#include "support/redis_servers.h"

namespace alnair {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

std::uint64_t counted(TierCounter counter) { return metrics().value(TierId::kRedis, counter); }

class RedisTierTest : public ::testing::Test {
 protected:
  RedisTier open(const std::string& url) { return RedisTier(redis::open(url), keys_); }

  const RedisKeys keys_{"test", "default"};
};

TEST_F(RedisTierTest, AValueIsAHeaderAndTheChunkUnderItsHash) {
  RedisServer server;
  RedisTier tier = open(server.url());
  const Chunk chunk = make_chunk(1, 5000);
  ASSERT_EQ(put_one(tier, chunk), PutOutcome::kStored);
  const std::string value = server.text({"GET", "test:default:" + chunk.hash.hex()});
  ASSERT_EQ(value.size(), 5016u);
  EXPECT_EQ(value.substr(0, 4), "ALNC");
  EXPECT_EQ(value.substr(4, 8), std::string("\2\0\0\0\x88\x13\0\0", 8));
  const auto header = RedisTier::parse_header(value);
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->length, 5000u);
  EXPECT_NEAR(static_cast<double>(header->written_s), static_cast<double>(time(nullptr)), 5);
  EXPECT_FALSE(RedisTier::parse_header("ALNC").has_value());
  EXPECT_EQ(value.substr(16), chunk.bytes.text());
  EXPECT_EQ(server.command({"TTL", "test:default:" + chunk.hash.hex()}).integer, -1);
}

TEST_F(RedisTierTest, WrongBytesAreCountedDeletedAndPutAgain) {
  RedisServer server;
  RedisTier tier = open(server.url());
  for (const std::uint64_t size : {3000, 300'000}) {  // hashed on the client's thread, and on others
    const Chunk chunk = make_chunk(1, size);
    const std::string key = keys_.chunk(chunk.hash);
    ASSERT_EQ(put_one(tier, chunk), PutOutcome::kStored);
    const std::string good = server.text({"GET", key});
    std::string flipped = good, longer = good + "x", strange = good;
    flipped[size / 2] ^= 1;
    strange[4] = 9;  // a format of the future
    for (const std::string& planted : {flipped, longer, strange, std::string("short"), std::string()}) {
      server.command({"SET", key, planted});
      const auto corrupt = counted(TierCounter::kCorrupt);
      EXPECT_FALSE(get_one(tier, chunk.hash).has_value());
      EXPECT_EQ(counted(TierCounter::kCorrupt), corrupt + 1);
      EXPECT_TRUE(eventually([&] { return server.command({"EXISTS", key}).integer == 0; }));
      EXPECT_EQ(put_one(tier, chunk), PutOutcome::kStored);
      EXPECT_TRUE(same_bytes(get_one(tier, chunk.hash), chunk));
    }
  }
}

TEST_F(RedisTierTest, AValueOfAbsurdLengthTakesNoMemoryAndIsDeleted) {
  RedisServer server;
  RedisTier tier = open(server.url());
  const Chunk chunk = make_chunk(1, 3000), other = make_chunk(2, 3000);
  ASSERT_EQ(put_one(tier, other), PutOutcome::kStored);
  server.command({"SETRANGE", keys_.chunk(chunk.hash), "60000000", "x"});
  const auto corrupt = counted(TierCounter::kCorrupt);
  EXPECT_FALSE(get_one(tier, chunk.hash).has_value());
  EXPECT_EQ(counted(TierCounter::kCorrupt), corrupt + 1);
  EXPECT_TRUE(eventually([&] { return server.command({"EXISTS", keys_.chunk(chunk.hash)}).integer == 0; }));
  EXPECT_TRUE(same_bytes(get_one(tier, other.hash), other)) << "the connection goes on";
}

TEST_F(RedisTierTest, AnotherTypeUnderTheNameIsAMiss) {
  RedisServer server;
  RedisTier tier = open(server.url());
  const Chunk chunk = make_chunk(1, 3000);
  server.command({"LPUSH", keys_.chunk(chunk.hash), "x"});
  EXPECT_FALSE(get_one(tier, chunk.hash).has_value());
}

TEST_F(RedisTierTest, AFullServerRefusesGoesOnReadingAndTakesAgainLater) {
  RedisServer server{{.arguments = {"--maxmemory", "20mb", "--maxmemory-policy", "noeviction"}}};
  RedisTier tier = open(server.url());
  std::vector<Chunk> stored;
  Chunk chunk = make_chunk(0, 1'000'000);
  for (std::uint64_t i = 0; i < 60 && put_one(tier, chunk) == PutOutcome::kStored; chunk = make_chunk(++i, 1'000'000))
    stored.push_back(chunk);
  ASSERT_GT(stored.size(), 5u);
  ASSERT_LT(stored.size(), 30u);
  EXPECT_EQ(put_one(tier, chunk), PutOutcome::kRefused);
  EXPECT_GT(counted(TierCounter::kRefused), 0u);
  EXPECT_EQ(counted(TierCounter::kFaults), 0u) << "being full is no fault";
  for (const Chunk& one : stored) EXPECT_TRUE(same_bytes(get_one(tier, one.hash), one));
  tier.erase(stored[0].hash);
  tier.erase(stored[1].hash);
  EXPECT_TRUE(eventually([&] { return put_one(tier, chunk) != PutOutcome::kRefused; }));
}

TEST_F(RedisTierTest, AServerThatIsGoneIsMissesAndRefusals) {
  auto server = std::make_unique<RedisServer>();
  RedisTier tier = open(server->url() + "?timeout_ms=1000&deadline_ms=3000");
  const Chunk chunk = make_chunk(1, 3000);
  ASSERT_EQ(put_one(tier, chunk), PutOutcome::kStored);
  server->kill();
  EXPECT_FALSE(get_one(tier, chunk.hash).has_value());
  EXPECT_EQ(put_one(tier, make_chunk(2, 3000)), PutOutcome::kRefused);
  bool present = true;
  tier.contains({&chunk.hash, 1}, {&present, 1});
  EXPECT_FALSE(present);
  EXPECT_GT(counted(TierCounter::kFaults), 0u);
  server->start_again();
  EXPECT_TRUE(eventually([&] { return put_one(tier, chunk) != PutOutcome::kRefused; }));
  EXPECT_TRUE(same_bytes(get_one(tier, chunk.hash), chunk));
}

TEST_F(RedisTierTest, AWindowsPresenceIsAskedInOneRoundTripForEachServer) {
  RedisCluster cluster;
  RedisTier tier = open(cluster.url());
  std::vector<ContentHash> hashes;
  for (std::uint64_t i = 0; i < 300; ++i) hashes.push_back(make_chunk(i, 100).hash);
  put_one(tier, make_chunk(7, 100));
  const std::unique_ptr<bool[]> present(new bool[300]);
  tier.contains(hashes, {present.get(), 300});
  for (std::size_t i = 0; i < 300; ++i) EXPECT_EQ(present[i], i == 7);
}

TEST_F(RedisTierTest, NamespacesAreApart) {
  RedisServer server;
  const auto client = redis::open(server.url());
  RedisTier one(client, RedisKeys("a", "x")), two(client, RedisKeys("a", "y"));
  const Chunk chunk = make_chunk(1, 1000);
  put_one(one, chunk);
  EXPECT_TRUE(get_one(one, chunk.hash).has_value());
  EXPECT_FALSE(get_one(two, chunk.hash).has_value());
}

TEST_F(RedisTierTest, ANamespaceOfAnotherFormatIsRefusedByName) {
  RedisServer server;
  const auto client = redis::open(server.url());
  check_redis_namespace(*client, keys_);
  EXPECT_EQ(server.text({"GET", "test:default:format"}), "2");
  check_redis_namespace(*client, keys_);
  server.command({"DEL", "test:default:format"});
  server.command({"LPUSH", "test:default:format", "x"});
  try {
    check_redis_namespace(*client, keys_);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("redis: the namespace \"test\" is in use by something else (the key test:default:format"));
  }
  server.command({"DEL", "test:default:format"});
  server.command({"SET", "test:default:format", "7"});
  try {
    check_redis_namespace(*client, keys_);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("redis: the namespace \"test\" is of format 7, and this version of Alnair writes format 2"));
  }
}

TEST_F(RedisTierTest, UsageIsTheServers) {
  RedisServer server{{.arguments = {"--maxmemory", "100mb"}}};
  RedisTier tier = open(server.url());
  EXPECT_EQ(tier.usage().limit_bytes, 100u << 20);
  EXPECT_GT(tier.usage().used_bytes, 100'000u);
}

}  // namespace
}  // namespace alnair
