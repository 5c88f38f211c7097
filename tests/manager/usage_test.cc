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
