// What redis::Client promises, on everything that it can talk to.
#include "redis/client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include "alnair/core/error.h"
#include "support/redis_servers.h"

namespace alnair::redis {
namespace {

using testing::Certificates;
using ::testing::HasSubstr;
using testing::RedisCluster;
using testing::RedisProxy;
using testing::RedisServer;

// What there is to connect to. Deviations are declared as data.
struct Servers {
  virtual ~Servers() = default;
  std::string url;
  Mode mode = Mode::kAuto;
  int masters = 0;
  bool admin = true;  // SCAN, INFO and the like get through
};

struct Single final : Servers {
  RedisServer server;
  Single() { url = server.url(), mode = Mode::kStandalone, masters = 1; }
};
struct SingleUnix final : Servers {
  RedisServer server;
  SingleUnix() { url = server.unix_url(), mode = Mode::kStandalone, masters = 1; }
};
struct SingleTls final : Servers {
  Certificates certificates;
  RedisServer server{{.tls = &certificates}};
  SingleTls() { url = server.tls_url(), mode = Mode::kStandalone, masters = 1; }
};
struct Cluster final : Servers {
  RedisCluster cluster;
  Cluster() { url = cluster.server(1).url(), mode = Mode::kCluster, masters = 3; }
};
struct ClusterTls final : Servers {
  Certificates certificates;
  RedisCluster cluster{{.tls = &certificates}};
  ClusterTls() { url = cluster.tls_url(), mode = Mode::kCluster, masters = 3; }
};
struct Valkey final : Servers {
  RedisCluster cluster{{.program = testing::valkey_server()}};
  Valkey() { url = cluster.server(0).url(), mode = Mode::kCluster, masters = 3; }
};
struct Proxy final : Servers {
  RedisServer one, two;
  RedisProxy proxy{{&one, &two}};
  Proxy() { url = proxy.url(), mode = Mode::kProxy, admin = false; }
};

struct Envoy final : Servers {
  RedisServer one, two;
  RedisProxy proxy{{&one, &two}, RedisProxy::Kind::kEnvoy};
  Envoy() { url = proxy.url(), mode = Mode::kProxy, admin = false; }
};

template <typename T>
std::shared_ptr<Servers> make() {
  return std::make_shared<T>();
}
struct Kind {
  const char* name;
  std::shared_ptr<Servers> (*make)();
};

class ClientContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam().name) == "Valkey" && testing::valkey_server().empty())
      GTEST_SKIP() << "ALNAIR_TEST_VALKEY names no program: run tests/run, which sets it";
    if (std::string_view(GetParam().name) == "Envoy" && testing::envoy_program().empty())
      GTEST_SKIP() << "ALNAIR_TEST_ENVOY names no program: run tests/run, which sets it";
  }
  // Made once; ctest runs the whole suite of a kind in one process.
  static Servers& servers() {
    static std::map<std::string, std::shared_ptr<Servers>> all;
    auto& found = all[GetParam().name];
    if (!found) found = GetParam().make();
    return *found;
  }
  std::shared_ptr<Client> client() { return open(servers().url); }
};

std::string bytes_of(std::size_t size, int seed) {
  std::string text(size, '\0');
  std::uint32_t state = static_cast<std::uint32_t>(seed) * 2654435761u + 1;
  for (char& c : text) c = static_cast<char>((state = state * 1664525u + 1013904223u) >> 24);
  return text;
}

View view_of(std::string_view text) {
  Buffer buffer(text.size());
  std::copy(text.begin(), text.end(), reinterpret_cast<char*>(buffer.data()));
  return std::move(buffer).freeze();
}

TEST_P(ClientContract, FindsOutWhatItTalksTo) {
  const ServerFacts facts = client()->check();
  EXPECT_EQ(facts.mode, servers().mode);
  EXPECT_EQ(facts.masters, servers().masters);
  if (!servers().admin) return;
  EXPECT_GE(facts.version, (Version{6, 0, 0}));
  EXPECT_EQ(facts.maxmemory_policy, "noeviction");
  EXPECT_GT(facts.used_memory, 0u);
}

TEST_P(ClientContract, ReadsBackWhatItWroteWhateverTheSize) {
  const auto redis = client();
  const std::vector<std::size_t> sizes{0,      1,      2,       100,     4'096,     16'383,   16'384,
                                       65'535, 65'536, 110'000, 131'072, 1'000'000, 4'190'208};
  std::vector<Command> writes;
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    keys.push_back(fmt::format("size:{}", sizes[i]));
    const std::string value = bytes_of(sizes[i], static_cast<int>(i));
    writes.push_back(
        {.args = {"SET", keys[i], Argument(value.substr(0, sizes[i] / 3), view_of(value.substr(sizes[i] / 3)))}});
  }
  for (const Result& result : redis->call(std::move(writes))) ASSERT_TRUE(result.ok()) << result.message;
  const std::vector<Result> values = redis->call_get(keys, {.body_offset = 40});
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(values[i].ok()) << values[i].message;
    EXPECT_EQ(values[i].reply.type, Reply::Type::kBulk);
    EXPECT_TRUE(values[i].reply.text() == bytes_of(sizes[i], static_cast<int>(i))) << "size " << sizes[i];
    EXPECT_EQ((reinterpret_cast<std::uintptr_t>(values[i].reply.bytes.data()) + 40) % 64, 0u);
  }
}

TEST_P(ClientContract, AnswersThousandsOfKeysOnceEach) {
  const auto redis = client();
  constexpr int kCount = 3'000;
  std::vector<Command> writes;
  std::vector<std::string> keys;
  for (int i = 0; i < kCount; ++i) {
    keys.push_back(fmt::format("many:{}", i));
    if (i % 3 != 0) writes.push_back({.args = {"SET", keys.back(), bytes_of(1'000 + i, i)}});
  }
  for (const Result& result : redis->call(std::move(writes))) ASSERT_TRUE(result.ok()) << result.message;
  std::mutex mutex;
  std::condition_variable done;
  std::vector<int> answered(kCount);
  int left = kCount, wrong = 0;
  redis->get(keys, [&](std::size_t i, Result&& result) {
    const std::lock_guard lock(mutex);
    ++answered[i];
    const int seed = static_cast<int>(i);
    if (!result.ok() || (i % 3 == 0 ? !result.reply.is_nil() : result.reply.text() != bytes_of(1'000 + i, seed)))
      ++wrong;
    if (--left == 0) done.notify_all();
  });
  std::unique_lock lock(mutex);
  ASSERT_TRUE(done.wait_for(lock, std::chrono::seconds(60), [&] { return left == 0; }));
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(std::count(answered.begin(), answered.end(), 1), kCount);
}

TEST_P(ClientContract, RunsScriptsThatTheServerDoesNotKnowYet) {
  static const Script script(fmt::format(
      "redis.call('SET', KEYS[1], ARGV[1]) return {{redis.call('GET', KEYS[1]), 7, false}} -- {}", getpid()));
  const auto redis = client();
  for (int round = 0; round < 2; ++round) {
    const Result result = redis->call(Command::of_script(script, {"scripted"}, {"value"}));
    ASSERT_TRUE(result.ok()) << result.message;
    ASSERT_EQ(result.reply.elements.size(), 3u);
    EXPECT_EQ(result.reply.elements[0].text(), "value");
    EXPECT_EQ(result.reply.elements[1].integer, 7);
    EXPECT_TRUE(result.reply.elements[2].is_nil());
  }
}

TEST_P(ClientContract, SaysWhatTheServerRefuses) {
  const auto redis = client();
  ASSERT_TRUE(redis->call({.args = {"SET", "text", "abc"}}).ok());
  const Result result = redis->call({.args = {"HGET", "text", "field"}});
  EXPECT_EQ(result.failure, Failure::kRefused);
  EXPECT_THAT(result.message, HasSubstr("WRONGTYPE"));
  EXPECT_EQ(redis->call({.args = {"GET", "text"}}).reply.text(), "abc") << "the connection is still good";
}

TEST_P(ClientContract, SweepsTheKeysOfAllMasters) {
  const auto redis = client();
  std::vector<Command> writes;
  std::set<std::string> expected;
  for (int i = 0; i < 500; ++i) {
    expected.insert(fmt::format("sweep:{}", i));
    writes.push_back({.args = {"SET", fmt::format("sweep:{}", i), "x"}});
  }
  for (const Result& result : redis->call(std::move(writes))) ASSERT_TRUE(result.ok()) << result.message;
  std::set<std::string> found;
  const Result result = redis->scan("sweep:*", 100, [&](std::vector<std::string>&& keys) {
    found.insert(keys.begin(), keys.end());
    return true;
  });
  if (servers().admin) {
    EXPECT_TRUE(result.ok()) << result.message;
    EXPECT_EQ(found, expected);
  } else {
    EXPECT_EQ(result.failure, Failure::kUnsupported);
  }
}

TEST_P(ClientContract, AsksEveryMaster) {
  const std::vector<NodeResult> results = client()->call_on_masters({.args = {"CONFIG", "GET", "maxmemory"}});
  if (!servers().admin) {
    ASSERT_EQ(results.size(), 1u);
    EXPECT_EQ(results[0].result.failure, Failure::kUnsupported);
    return;
  }
  EXPECT_EQ(static_cast<int>(results.size()), servers().masters);
  for (const NodeResult& each : results) {
    ASSERT_TRUE(each.result.ok()) << each.result.message;
    EXPECT_EQ(each.result.reply.elements.at(1).text(), "0");
  }
}

TEST_P(ClientContract, CanBeClosedWithCommandsInFlight) {
  std::atomic<int> answers{0};
  {
    const auto redis = client();
    std::vector<std::string> keys;
    for (int i = 0; i < 1'000; ++i) keys.push_back(fmt::format("many:{}", i));
    redis->get(keys, [&](std::size_t, Result&& result) {
      if (result.ok() || result.failure == Failure::kCancelled) ++answers;
    });
  }
  EXPECT_EQ(answers, 1'000);
}

TEST_P(ClientContract, CanBeClosedByItsOwnCallback) {
  std::mutex mutex;
  std::condition_variable closed;
  std::shared_ptr<Client> redis = client();
  bool done = false;
  redis->get({"a"}, [&](std::size_t, Result&&) {
    const std::lock_guard lock(mutex);
    redis.reset();
    done = true;
    closed.notify_all();
  });
  std::unique_lock lock(mutex);
  EXPECT_TRUE(closed.wait_for(lock, std::chrono::seconds(60), [&] { return done; }));
}

INSTANTIATE_TEST_SUITE_P(All, ClientContract,
                         ::testing::Values(Kind{"Standalone", make<Single>}, Kind{"UnixSocket", make<SingleUnix>},
                                           Kind{"Tls", make<SingleTls>}, Kind{"Cluster", make<Cluster>},
                                           Kind{"ClusterTls", make<ClusterTls>}, Kind{"Valkey", make<Valkey>},
                                           Kind{"Proxy", make<Proxy>}, Kind{"Envoy", make<Envoy>}),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace alnair::redis
