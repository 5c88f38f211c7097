#include "redis/slot_map.h"

#include <gmock/gmock.h>

#include <cstring>

#include "redis/breaker.h"
#include "redis/resp_parser.h"
#include "redis/server_error.h"

namespace alnair::redis {
namespace {

Reply reply_of(std::string_view bytes) {
  RespParser parser;
  std::memcpy(parser.room()[1].data(), bytes.data(), bytes.size());
  parser.received(bytes.size());
  Reply reply;
  EXPECT_EQ(parser.next(reply), RespParser::Outcome::kReply);
  return reply;
}

Reply bulk(const std::string& text) { return reply_of("$" + std::to_string(text.size()) + "\r\n" + text + "\r\n"); }
Reply number(std::int64_t value) { return {.type = Reply::Type::kInteger, .integer = value}; }
Reply array(std::vector<Reply> elements) { return {.type = Reply::Type::kArray, .elements = std::move(elements)}; }

const Address kAsked{.host = "10.0.0.9", .port = 6379};

TEST(SlotOf, IsTheCrcOfTheKeyOrOfItsHashTag) {
  EXPECT_EQ(slot_of("123456789"), 0x31c3);  // the specification's own example
  EXPECT_EQ(slot_of(""), 0);
  EXPECT_EQ(slot_of("{user1000}.following"), slot_of("user1000"));
  EXPECT_EQ(slot_of("foo{{bar}}zap"), slot_of("{bar"));
  EXPECT_NE(slot_of("foo{}{bar}"), slot_of("bar"));
}

Reply shard(std::vector<Reply> slots, std::vector<Reply> nodes) {
  return array({bulk("slots"), array(std::move(slots)), bulk("nodes"), array(std::move(nodes))});
}
Reply node(const std::string& id, const std::string& host, int port, const std::string& role,
           const std::string& health) {
  return array({bulk("id"), bulk(id), bulk("port"), number(port), bulk("tls-port"), number(port + 1), bulk("endpoint"),
                bulk(host), bulk("role"), bulk(role), bulk("health"), bulk(health)});
}

TEST(SlotMap, IsReadFromShards) {
  const Reply reply = array({
      shard({number(0), number(99), number(200), number(16383)},
            {node("b", "10.0.0.2", 7001, "replica", "online"), node("a", "10.0.0.1", 7000, "master", "online")}),
      shard({number(100), number(199)},
            {node("dead", "10.0.0.3", 7000, "master", "fail"), node("c", "?", 7002, "master", "online")}),
      shard({}, {node("empty", "10.0.0.5", 7000, "master", "online")}),
  });
  const auto map = SlotMap::from_shards(reply, kAsked, false);
  ASSERT_TRUE(map);
  EXPECT_EQ(map->masters().size(), 2u);
  EXPECT_EQ(map->owner(0)->text(), "10.0.0.1:7000");
  EXPECT_EQ(map->owner(150)->text(), "10.0.0.9:7002") << "a host that the node does not know is the one that was asked";
  EXPECT_EQ(map->owner(16383)->text(), "10.0.0.1:7000");
  EXPECT_EQ(map->uncovered(), "");
  EXPECT_EQ(SlotMap::from_shards(reply, kAsked, true)->owner(0)->text(), "10.0.0.1:7001");
}

TEST(SlotMap, IsReadFromSlots) {
  const auto map = SlotMap::from_slots(
      array({array({number(0), number(5), array({bulk("10.0.0.1"), number(7000), bulk("a")})}),
             array({number(7), number(7), array({bulk(""), number(7001)}), array({bulk("10.0.0.3"), number(1)})})}),
      kAsked);
  ASSERT_TRUE(map);
  EXPECT_EQ(map->owner(5)->text(), "10.0.0.1:7000");
  EXPECT_EQ(map->owner(7)->text(), "10.0.0.9:7001");
  EXPECT_EQ(map->owner(6), nullptr);
  EXPECT_EQ(map->uncovered(), "6, 8-16383");
}

TEST(SlotMap, RefusesWhatIsNoMap) {
  EXPECT_FALSE(SlotMap::from_slots(bulk("x"), kAsked));
  EXPECT_FALSE(SlotMap::from_slots(array({array({number(0), number(16384), array({bulk("h"), number(1)})})}), kAsked));
  EXPECT_FALSE(SlotMap::from_slots(array({array({number(9), number(3), array({bulk("h"), number(1)})})}), kAsked));
  EXPECT_FALSE(SlotMap::from_slots(array({array({number(0), number(3), array({bulk("h"), number(0)})})}), kAsked));
  EXPECT_FALSE(SlotMap::from_shards(array({bulk("x")}), kAsked, false));
}

TEST(SlotMap, LearnsFromMoved) {
  SlotMap map = SlotMap::of_one(kAsked);
  const Address other{.host = "10.0.0.2", .port = 1};
  map.move(5, other);
  EXPECT_EQ(*map.owner(5), other);
  EXPECT_EQ(*map.owner(6), kAsked);
  EXPECT_TRUE(map.serves(other));
}

TEST(SlotMap, KnowsTwoClustersApart) {
  const auto of = [](const std::string& id) {
    return *SlotMap::from_slots(
        array({array({number(0), number(16383), array({bulk("10.0.0.1"), number(7000), bulk(id)})})}), kAsked);
  };
  EXPECT_TRUE(of("a").same_cluster(of("a")));
  EXPECT_FALSE(of("a").same_cluster(of("b")));
  EXPECT_TRUE(of("a").same_cluster(SlotMap::of_one(kAsked))) << "unknown";
}

TEST(ServerError, AreUnderstood) {
  const ServerErrorInfo moved = understand("MOVED 3999 127.0.0.1:6381");
  EXPECT_EQ(moved.error, ServerError::kMoved);
  EXPECT_EQ(moved.slot, 3999);
  EXPECT_EQ(moved.target.text(), "127.0.0.1:6381");
  EXPECT_EQ(understand("ASK 1 fd00::1:6381").target.text(), "[fd00::1]:6381");
  EXPECT_EQ(understand("MOVED 1 :6381").target.host, "");
  EXPECT_EQ(understand("MOVED 99999 h:1").error, ServerError::kOther);
  EXPECT_EQ(understand("MOVED x").error, ServerError::kOther);
  const std::vector<std::pair<const char*, Failure>> cases{
      {"OOM command not allowed when used memory > 'maxmemory'.", Failure::kNoRoom},
      {"ERR Error running script: @user_script:1: OOM command not allowed when used memory > 'maxmemory'",
       Failure::kNoRoom},
      {"LOADING Redis is loading the dataset in memory", Failure::kUnavailable},
      {"CLUSTERDOWN Hash slot not served", Failure::kUnavailable},
      {"NOPERM this user has no permissions to run the 'get' command", Failure::kDenied},
      {"NOAUTH Authentication required.", Failure::kDenied},
      {"WRONGPASS invalid username-password pair or user is disabled.", Failure::kDenied},
      {"ERR invalid password", Failure::kDenied},
      {"ERR unknown command 'HELLO', with args beginning with: ", Failure::kUnsupported},
      {"ERR This instance has cluster support disabled", Failure::kUnsupported},
      {"WRONGTYPE Operation against a key", Failure::kRefused},
      {"", Failure::kRefused},
  };
  for (const auto& [text, failure] : cases) EXPECT_EQ(failure_of(understand(text).error), failure) << text;
}

TEST(Breaker, OpensOnAFailureAndLetsOneProbePassAfterAWhile) {
  Breaker breaker;
  Breaker::Clock::time_point now{};
  EXPECT_TRUE(breaker.closed());
  breaker.failure(now);
  EXPECT_FALSE(breaker.closed());
  EXPECT_FALSE(breaker.take_probe(now));
  breaker.failure(now + Breaker::kFirstPause);  // what was under way: no longer pause for that
  now += Breaker::kFirstPause;
  EXPECT_TRUE(breaker.take_probe(now));
  EXPECT_FALSE(breaker.take_probe(now)) << "one at a time";
  breaker.failure(now);
  EXPECT_FALSE(breaker.take_probe(now + Breaker::kFirstPause)) << "the second pause is longer";
  now += 2 * Breaker::kFirstPause;
  EXPECT_TRUE(breaker.take_probe(now));
  breaker.success();
  EXPECT_TRUE(breaker.closed());
}

TEST(Breaker, DoesNotPauseForEver) {
  Breaker breaker;
  Breaker::Clock::time_point now{};
  for (int i = 0; i < 100; ++i) {
    breaker.failure(now);
    EXPECT_LE(breaker.retry_at() - now, Breaker::kLongestPause);
    now += Breaker::kLongestPause;
    ASSERT_TRUE(breaker.take_probe(now));
  }
}

}  // namespace
}  // namespace alnair::redis
