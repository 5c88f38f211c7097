// What goes wrong with one server, and what the client says about it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "alnair/core/error.h"
#include "redis/client.h"
#include "support/redis_servers.h"
#include "support/scripted_redis.h"

namespace alnair::redis {
namespace {

using ::testing::AllOf;
using testing::Certificates;
using testing::eventually;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RedisProxy;
using testing::RedisServer;
using testing::ScriptedRedis;
using testing::TemporaryDirectory;

// The class and text of what check() throws.
std::string check_error(const std::string& url) {
  try {
    open(url)->check();
  } catch (const AccessError& error) {
    return fmt::format("AccessError: {}", error.what());
  } catch (const ConfigError& error) {
    return fmt::format("ConfigError: {}", error.what());
  } catch (const TimeoutError& error) {
    return fmt::format("TimeoutError: {}", error.what());
  } catch (const CacheError& error) {
    return fmt::format("CacheError: {}", error.what());
  }
  return "no error";
}

std::string with_user(const RedisServer& server, const std::string& user_and_password) {
  return "redis://" + user_and_password + "@" + server.address();
}

// ---- who may do what

TEST(RedisAccess, AWrongPasswordIsSaidWithoutThePassword) {
  RedisServer server;
  server.command({"CONFIG", "SET", "requirepass", "right"});
  EXPECT_THAT(check_error(with_user(server, ":wr0ng")),
              AllOf(HasSubstr("AccessError: Redis at " + server.address()),
                    HasSubstr("refuses the password of the user 'default'"), Not(HasSubstr("wr0ng"))));
  EXPECT_THAT(check_error(server.url()), HasSubstr("asks for a password, and the URL has none"));
  TemporaryDirectory directory;
  std::ofstream(directory / "empty") << "\n";
  EXPECT_THAT(check_error(server.url() + "?password_file=" + directory / "empty"),
              HasSubstr("asks for a password, and password_file '" + directory / "empty" + "' has none"));
  EXPECT_EQ(check_error(with_user(server, ":right")), "no error");
  EXPECT_EQ(open(with_user(server, ":wr0ng"))->call({.args = {"GET", "x"}}).failure, Failure::kDenied);
}

TEST(RedisAccess, ACommandThatTheAclLacksIsNamed) {
  RedisServer server;
  server.command({"ACL", "SETUSER", "reader", "on", ">pw", "~alnair:default:*", "+get"});
  const auto redis = open(with_user(server, "reader:pw"));
  EXPECT_TRUE(redis->call({.args = {"GET", "alnair:default:x"}}).ok());
  const Result set = redis->call({.args = {"SET", "alnair:default:x", "y"}});
  EXPECT_EQ(set.failure, Failure::kDenied);
  EXPECT_THAT(set.message, AllOf(HasSubstr("does not let the user 'reader' run SET"), HasSubstr("'set'")));
  const Result foreign = redis->call({.args = {"GET", "alnair:other:x"}});
  EXPECT_EQ(foreign.failure, Failure::kDenied);
  EXPECT_THAT(foreign.message, HasSubstr("key"));
  EXPECT_EQ(redis->check().maxmemory_policy, "") << "INFO is denied, and what it would tell is unknown";
}

TEST(RedisAccess, APasswordMayChangeWhileTheClientRuns) {
  RedisServer server;
  TemporaryDirectory directory;
  std::ofstream(directory / "password") << "first\n";
  server.command({"ACL", "SETUSER", "job", "on", ">first", "~*", "+@all"});
  const auto by_call = open(with_user(server, "job:first"));
  const auto by_file = open(with_user(server, "job") + "?password_file=" + directory / "password");
  for (const auto& redis : {by_call, by_file}) ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  server.command({"ACL", "SETUSER", "job", "resetpass", ">second"});
  by_call->set_credentials("job", "second");
  std::ofstream(directory / "password", std::ios::trunc) << "second\n";
  server.command({"CLIENT", "KILL", "USER", "job"});
  for (const auto& redis : {by_call, by_file}) {
    const Result result = redis->call({.args = {"GET", "x"}});
    EXPECT_EQ(result.reply.text(), "1") << result.message;
  }
}

// ---- TLS

TEST(RedisTls, IsVerified) {
  Certificates ours, theirs;
  RedisServer server({.tls = &ours});
  EXPECT_EQ(check_error(server.tls_url()), "no error");
  const std::string base = fmt::format("rediss://127.0.0.1:{}?tls_ca=", server.tls_port());
  EXPECT_THAT(check_error(base + theirs.ca()), HasSubstr("its certificate is refused"));
  EXPECT_THAT(check_error(base + ours.ca() + "&tls_name=other.example"),
              AllOf(HasSubstr("ConfigError"), HasSubstr("its certificate is refused: hostname mismatch")));
  EXPECT_EQ(check_error(base + ours.ca() + "&tls_name=localhost"), "no error");
  EXPECT_EQ(check_error(fmt::format("rediss://127.0.0.1:{}?tls_verify=false", server.tls_port())), "no error");
  EXPECT_EQ(check_error(fmt::format("rediss://localhost:{}?tls_ca={}", server.tls_port(), ours.ca())), "no error");
}

TEST(RedisTls, ToAPlainPortAndTheReverseSayWhatToChange) {
  Certificates certificates;
  RedisServer server({.tls = &certificates});
  EXPECT_THAT(check_error(fmt::format("rediss://{}?timeout_ms=1000&tls_ca={}", server.address(), certificates.ca())),
              AllOf(HasSubstr("ConfigError"), HasSubstr("speaks without TLS (a server without TLS is redis://, not rediss://)")));
  EXPECT_THAT(check_error(fmt::format("redis://127.0.0.1:{}?timeout_ms=2000", server.tls_port())),
              AllOf(HasSubstr("ConfigError"), HasSubstr("(a server with TLS is rediss://, not redis://)")));
}

TEST(RedisTls, FilesThatCannotBeUsedAreNamed) {
  TemporaryDirectory directory;
  std::ofstream(directory / "garbage") << "no certificate";
  const auto error_of = [](const std::string& url) {
    try {
      open(url);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(error_of("rediss://h?tls_ca=/nowhere/ca.pem"),
              HasSubstr("tls_ca '/nowhere/ca.pem' cannot be read: No such"));
  EXPECT_THAT(error_of("rediss://h?tls_ca=" + directory / "garbage"), HasSubstr("garbage' cannot be used"));
  Certificates certificates;
  EXPECT_THAT(
      error_of(fmt::format("rediss://h?tls_ca={0}&tls_cert={0}&tls_key={1}", certificates.ca(), certificates.key())),
      HasSubstr("tls_key '"));
}

// ---- what is no server for us

TEST(RedisServers, ThatCannotBeUsedSayWhy) {
  RedisServer gone;
  gone.kill();
  EXPECT_THAT(check_error(gone.url()), AllOf(HasSubstr("CacheError: Redis at " + gone.address()),
                                             HasSubstr("cannot be reached: Connection refused")));
  EXPECT_THAT(check_error("redis://no-such-host.invalid?timeout_ms=60000"), HasSubstr("has a name that leads nowhere"));
  EXPECT_THAT(check_error("unix:/nowhere/redis.sock"),
              HasSubstr("Redis at unix:/nowhere/redis.sock cannot be reached"));
  RedisServer single;
  EXPECT_THAT(check_error(single.url() + "?mode=cluster"),
              AllOf(HasSubstr("ConfigError"), HasSubstr("is not part of a cluster, and mode=cluster wants one")));
  RedisServer other;
  EXPECT_THAT(check_error(single.url() + "," + other.address()), HasSubstr("they are two servers, and no cluster"));
}

TEST(RedisServers, ThatAreTooOldNameTheVersionThatIsNeeded) {
  ScriptedRedis five([](const std::vector<std::string>& arguments) -> std::string {
    if (arguments[0] == "INFO") return "$32\r\n# Server\r\nredis_version:5.0.14\r\n\r\n";
    return "-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n";
  });
  EXPECT_THAT(check_error(five.url()), HasSubstr("ConfigError"));
  EXPECT_THAT(check_error(five.url()), HasSubstr("is Redis '5.0.14'; Alnair needs 6.0.0 or later"));
}

TEST(RedisServers, ThatSpeakSomethingElseAreNoRedis) {
  ScriptedRedis web([](const std::vector<std::string>&) { return std::string("HTTP/1.1 400 Bad Request\r\n\r\n"); });
  EXPECT_THAT(check_error(web.url()), HasSubstr("does not speak the protocol of Redis"));
  ScriptedRedis sentinel([](const std::vector<std::string>&) { return ScriptedRedis::hello("sentinel"); });
  EXPECT_THAT(check_error(sentinel.url()), HasSubstr("is a Sentinel"));
}

// ---- servers in trouble

TEST(RedisTrouble, APauseIsWaitedFor) {
  RedisServer server;
  const auto redis = open(server.url() + "?timeout_ms=30000&deadline_ms=60000");
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  server.command({"CLIENT", "PAUSE", "500", "ALL"});
  EXPECT_EQ(redis->call({.args = {"GET", "x"}}).reply.text(), "1");
}

TEST(RedisTrouble, AServerThatSleepsIsLeftAloneAndFoundAgain) {
  RedisServer server;
  const auto redis = open(server.url() + "?timeout_ms=200");
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  std::thread sleeper([&] { server.command({"DEBUG", "SLEEP", "3"}); });
  ASSERT_TRUE(eventually([&] { return redis->call({.args = {"GET", "x"}}).failure == Failure::kTimeout; }));
  const Result next = redis->call({.args = {"GET", "x"}});
  if (!next.ok()) {
    EXPECT_THAT(next.message, HasSubstr("did not answer within 200 ms"));
  }
  EXPECT_TRUE(eventually([&] { return redis->call({.args = {"GET", "x"}}).reply.text() == "1"; }));
  sleeper.join();
}

TEST(RedisTrouble, ADeadlineEndsACommandThatWaits) {
  RedisServer server;
  const auto redis = open(server.url() + "?timeout_ms=60000");
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  server.freeze();
  const Result late = redis->call({.args = {"GET", "x"}}, {.deadline = std::chrono::milliseconds(100)});
  EXPECT_EQ(late.failure, Failure::kTimeout);
  EXPECT_THAT(late.message, HasSubstr("deadline"));
  server.thaw();
  EXPECT_EQ(redis->call({.args = {"GET", "x"}}).reply.text(), "1") << "the late reply is not taken for this one's";
}

TEST(RedisTrouble, AServerWithoutMemorySaysSoAndGoesOnReading) {
  RedisServer server({.arguments = {"--maxmemory", "3mb", "--maxmemory-policy", "noeviction"}});
  const auto redis = open(server.url());
  ASSERT_TRUE(redis->call({.args = {"SET", "first", "1"}}).ok());
  Result result;
  for (int i = 0; i < 100 && result.ok(); ++i)
    result = redis->call({.args = {"SET", fmt::format("key {}", i), std::string(100'000, 'x')}});
  EXPECT_EQ(result.failure, Failure::kNoRoom);
  EXPECT_EQ(redis->call({.args = {"GET", "first"}}).reply.text(), "1");
  const ServerFacts facts = redis->check();
  EXPECT_EQ(facts.maxmemory, 3u << 20);
  EXPECT_EQ(facts.maxmemory_policy, "noeviction");
}

TEST(RedisTrouble, AServerThatLoadsIsLeftAloneForAWhile) {
  if (testing::is_redis_6()) GTEST_SKIP() << "Redis 6 cannot be made to load slowly and to answer meanwhile";
  RedisServer server;
  std::vector<std::string> mset{"MSET"};
  for (int i = 0; i < 3'000; ++i) mset.insert(mset.end(), {fmt::format("key {}", i), std::string(3'000, 'x')});
  server.command(mset);
  const auto redis = open(server.url() + "?timeout_ms=30000");
  ASSERT_TRUE(redis->call({.args = {"GET", "key 0"}}).ok());
  server.command({"CONFIG", "SET", "key-load-delay", "1000", "loading-process-events-interval-bytes", "1024"});
  std::thread reloader([&] { server.command({"DEBUG", "RELOAD"}); });
  ASSERT_TRUE(eventually([&] {
    const Result result = redis->call({.args = {"GET", "key 0"}});
    return result.failure == Failure::kUnavailable && result.message.find("LOADING") != std::string::npos;
  }));
  server.command({"CONFIG", "SET", "key-load-delay", "0"});
  EXPECT_TRUE(eventually([&] { return redis->call({.args = {"GET", "key 0"}}).ok(); }));
  reloader.join();
}

TEST(RedisTrouble, AReplicaRefusesWritesAndWithoutItsMasterEverything) {
  RedisServer server({.arguments = {"--replica-serve-stale-data", "no"}});
  const auto redis = open(server.url());
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  server.command({"REPLICAOF", "127.0.0.1", "1"});
  const Result read = redis->call({.args = {"GET", "x"}});
  EXPECT_EQ(read.failure, Failure::kUnavailable);
  EXPECT_THAT(read.message, HasSubstr("MASTERDOWN"));
  server.command({"CONFIG", "SET", "replica-serve-stale-data", "yes"});
  EXPECT_EQ(redis->call({.args = {"GET", "x"}}).reply.text(), "1");
  const Result write = redis->call({.args = {"SET", "x", "2"}});
  EXPECT_EQ(write.failure, Failure::kUnavailable);
  EXPECT_THAT(write.message, HasSubstr("READONLY"));
}

TEST(RedisTrouble, ARestartIsNotNoticed) {
  RedisServer server;
  const auto redis = open(server.url());
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  server.start_again();
  const Result result = redis->call({.args = {"GET", "x"}});
  EXPECT_TRUE(result.ok()) << result.message;
  EXPECT_TRUE(result.reply.is_nil());
}

TEST(RedisTrouble, WhatMayHaveRunIsNotRepeatedUnlessItMayBe) {
  std::atomic<int> increments{0};
  ScriptedRedis server([&](const std::vector<std::string>& arguments) -> std::string {
    if (arguments[0] == "HELLO") return ScriptedRedis::hello();
    return ++increments == 1 ? "" : ":2\r\n";  // the first breaks the connection after it was heard
  });
  const auto redis = open(server.url());
  const Result once = redis->call({.args = {"INCR", "x"}, .repeatable = false});
  EXPECT_EQ(once.failure, Failure::kTimeout);
  EXPECT_THAT(once.message, HasSubstr("may have run"));
  EXPECT_EQ(increments, 1);
  increments = 0;
  EXPECT_EQ(redis->call({.args = {"INCR", "x"}}).reply.integer, 2);
}

TEST(RedisTrouble, HalfAReplyAndGarbageEndTheConnectionAndNoMore) {
  std::atomic<int> calls{0};
  ScriptedRedis server([&](const std::vector<std::string>& arguments) -> std::string {
    if (arguments[0] == "HELLO") return ScriptedRedis::hello();
    switch (++calls) {
      case 1:
        return "$10\r\nabc";  // and nothing more, until the timeout
      case 2:
        return "?garbage\r\n";
      default:
        return "$1\r\ny\r\n";
    }
  });
  const auto redis = open(server.url() + "?timeout_ms=300");
  EXPECT_EQ(redis->call({.args = {"GET", "x"}}).failure, Failure::kTimeout);
  EXPECT_TRUE(eventually([&] { return redis->call({.args = {"GET", "x"}}).reply.text() == "y"; }));
  EXPECT_GE(calls, 3);
}

TEST(RedisTrouble, TryAgainIsTriedAgain) {
  std::atomic<int> calls{0};
  std::atomic<const ScriptedRedis*> self{nullptr};
  ScriptedRedis server([&](const std::vector<std::string>& arguments) -> std::string {
    if (arguments[0] == "HELLO") return ScriptedRedis::hello("cluster");
    if (arguments[0] == "CLUSTER") return self.load()->all_slots();
    return ++calls < 3 ? "-TRYAGAIN Multiple keys request during rehashing of slot\r\n" : "$1\r\ny\r\n";
  });
  self = &server;
  EXPECT_EQ(open(server.url())->call({.args = {"MGET", "{x}1", "{x}2"}}).reply.text(), "y");
  EXPECT_EQ(calls, 3);
}

// ---- proxies

TEST(RedisProxies, SayWhenTheServerBehindThemIsGone) {
  RedisServer server;
  RedisProxy proxy({&server});
  const auto redis = open(proxy.url() + "?mode=proxy");
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  server.kill();
  EXPECT_EQ(redis->call({.args = {"GET", "x"}}).failure, Failure::kUnavailable);
}

TEST(RedisProxies, StandInForEachOther) {
  RedisServer server;
  RedisProxy one({&server}), two({&server});
  const auto redis = open(one.url() + "," + two.url().substr(8) + "?mode=proxy");
  std::vector<std::string> keys;
  for (int i = 0; i < 100; ++i) keys.push_back(fmt::format("key {}", i));
  for (const Result& result : redis->call_get(keys)) EXPECT_TRUE(result.ok()) << result.message;
  one.kill();
  for (const Result& result : redis->call_get(keys)) EXPECT_TRUE(result.ok()) << result.message;
}

// ---- processes

TEST(RedisFork, AChildMakesConnectionsOfItsOwn) {
  RedisServer server;
  const auto redis = open(server.url());
  ASSERT_TRUE(redis->call({.args = {"SET", "x", "1"}}).ok());
  const pid_t child = fork();
  if (child == 0) {
    const bool good =
        redis->call({.args = {"GET", "x"}}).reply.text() == "1" && redis->call({.args = {"SET", "child", "2"}}).ok();
    _exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(redis->call({.args = {"GET", "child"}}).reply.text(), "2");
}

}  // namespace
}  // namespace alnair::redis
