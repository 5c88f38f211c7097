#include "dataset/wait_report.h"

#include <gtest/gtest.h>

namespace alnair {
namespace {

using std::chrono::seconds;

const WaitReport::Clock::time_point kStart{};
std::string object() { return "s3://pets/a.jpg"; }

TEST(WaitReport, SaysNothingFor30SecondsThenEach30Seconds) {
  WaitReport report(kStart, {});
  EXPECT_EQ(report.due(kStart + seconds(29), {}, object), std::nullopt);
  EXPECT_EQ(report.due(kStart + seconds(30), {}, object),
            "waiting for s3://pets/a.jpg since 30 s: no answer yet, neither from the source nor from another process that is "
            "fetching it");
  EXPECT_EQ(report.due(kStart + seconds(31), {}, object), std::nullopt);
  EXPECT_EQ(report.due(kStart + seconds(59), {}, object), std::nullopt);
  EXPECT_TRUE(report.due(kStart + seconds(61), {}, object)->starts_with("waiting for s3://pets/a.jpg since 61 s"));
}

TEST(WaitReport, NamesTheCauseByWhatWasCountedMeanwhile) {
  const WaitReport::Signs before{.throttled = 5, .retries = 9, .faults = 2};
  const auto said = [&](WaitReport::Signs now) { return *WaitReport(kStart, before).due(kStart + seconds(40), now, object); };
  EXPECT_NE(said({7, 20, 2}).find("the source asks for fewer requests (2 answers 503 or 429 meanwhile)"), std::string::npos);
  EXPECT_NE(said({5, 12, 9}).find("requests fail and are repeated (3 times meanwhile)"), std::string::npos);
  EXPECT_NE(said({5, 9, 3}).find("a tier fails (1 errors meanwhile)"), std::string::npos);
  EXPECT_NE(said(before).find("no answer yet"), std::string::npos);
}

}  // namespace
}  // namespace alnair
