#include "manager/service/usage.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace alnair::manager {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

json report(double reads, double memory_hits) {
  return {{"counters", {{"reads", reads}, {"memory_hits", memory_hits}, {"source_hits", 1}, {"wait_us", 2e6}}}};
}

TEST(UsageTotals, SumUpHowMuchCountersGrow) {
  UsageTotals usage;
  const UsageTotals::Time start{1000s};
  usage.reported("a", report(10, 5), start);
  usage.reported("b", report(1, 1), start);
  usage.reported("a", report(30, 20), start + 10s);
  EXPECT_EQ(usage.total().reads, 31);
  EXPECT_EQ(usage.total().cache_hits(), 21);
  EXPECT_EQ(usage.of("a").reads, 30);
  EXPECT_EQ(usage.of("a").stalled_s, 2);
  usage.reported("a", report(4, 0), start + 20s);  // another process went on with the job
  EXPECT_EQ(usage.total().reads, 35);
  EXPECT_EQ(usage.of("nobody").reads, 0);
}

TEST(UsageTotals, IgnoreWhatIsNoCounter) {
  UsageTotals usage;
  const UsageTotals::Time now{1000s};
  for (const char* text : {"{}", R"({"counters": 5})", R"({"counters": {"reads": "many", "memory_hits": -1, "wait_us": 1e300}})"})
    usage.reported("a", json::parse(text), now);
  EXPECT_EQ(usage.total().reads, 0);
  EXPECT_EQ(usage.total().cache_hits(), 0);
  EXPECT_EQ(usage.total().stalled_s, 0);
}

json tiers(const char* tier, const char* place, std::uint64_t used, std::uint64_t limit) {
  return {{"tiers", {{{"tier", tier}, {"place", place}, {"used_bytes", used}, {"limit_bytes", limit}}}}};
}

JobBrief on(const char* job, const char* node) { return {.id = job, .node = node}; }

TEST(UsageTotals, ATierThatJobsShareCountsOnceAndThoseOfSeveralNodesAddUp) {
  UsageTotals usage;
  const UsageTotals::Time now{1000s};
  usage.reported("a", tiers("memory", "x", 10, 100), now);
  usage.reported("b", tiers("memory", "x", 30, 100), now + 1s);  // later, of the same
  usage.reported("a", tiers("memory", "x", 20, 100), now - 1s);
  usage.reported("c", tiers("memory", "y", 5, 50), now);  // another user's on the same node
  usage.reported("d", tiers("memory", "x", 7, 70), now);  // on another node
  const auto nodes = usage.nodes({on("a", "n1"), on("b", "n1"), on("c", "n1"), on("d", "n2"), on("e", "n3")});
  ASSERT_EQ(nodes.size(), 2u) << "of n3 nothing is known";
  EXPECT_EQ(nodes.at("n1").memory->used_bytes, 35u);
  EXPECT_EQ(nodes.at("n1").memory->limit_bytes, 150u);
  EXPECT_FALSE(nodes.at("n1").disk);
  EXPECT_EQ(sum_of(nodes).memory->used_bytes, 42u);
  EXPECT_EQ(usage.total().reads, 0) << "it is no counter";
  usage.reported("a", report(10, 5), now + 2s);
  EXPECT_EQ(usage.nodes({on("a", "n1")}).at("n1").memory->used_bytes, 20u)
      << "a report without tiers changes nothing of them";
}

TEST(UsageTotals, IgnoreTiersThatAreNone) {
  UsageTotals usage;
  const UsageTotals::Time now{1000s};
  for (const char* text :
       {R"({"tiers": 5})", R"({"tiers": [5, {}, {"tier": "memory"}]})",
        R"({"tiers": [{"tier": "moon", "place": "", "used_bytes": 1, "limit_bytes": 1}]})",
        R"({"tiers": [{"tier": "memory", "place": "", "used_bytes": -1, "limit_bytes": 1}]})",
        R"({"tiers": [{"tier": "memory", "place": "", "used_bytes": 18446744073709551615, "limit_bytes": 1}]})"})
    usage.reported("a", json::parse(text), now);
  EXPECT_TRUE(usage.nodes({on("a", "n")}).empty());
  json many = {{"tiers", json::array()}};
  for (int i = 0; i < 100; ++i) many["tiers"].push_back(tiers("disk", std::to_string(i).c_str(), 1, 1)["tiers"][0]);
  usage.reported("a", many, now);
  EXPECT_EQ(usage.nodes({on("a", "n")}).at("n").disk->used_bytes, 8u) << "a job has a few, and not a hundred";
}

TEST(UsageTotals, KeepAnHourOfSamplesAndForgetWhoIsSilent) {
  UsageTotals usage;
  UsageTotals::Time now{1000s};
  usage.reported("a", report(10, 5), now);
  for (int second = 0; second < 2 * 3600; ++second, now += 1s) usage.sample(now, second * 1000);
  const auto history = usage.history();
  ASSERT_EQ(history.size(), 360u);
  EXPECT_EQ(history.back().time_ms - history.front().time_ms, 3'590'000);
  EXPECT_EQ(usage.of("a").reads, 0);
  EXPECT_EQ(usage.total().reads, 10);
}

}  // namespace
}  // namespace alnair::manager
