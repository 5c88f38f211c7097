// The flusher's pace, under a virtual clock.
#include "cache/redis/flush_pace.h"

#include <gtest/gtest.h>

namespace alnair {
namespace {

constexpr std::uint64_t kMiB = 1u << 20, kGiB = 1u << 30;

TEST(FlushPaceTest, AnEmptyRedisThatGrowsSlowlyIsLeftAlone) {
  FlushPace pace({});
  pace.observe_memory(0, 0);
  pace.observe_memory(10, 10 * kMiB);
  EXPECT_NEAR(pace.growth(), kMiB, 1.0);
  EXPECT_NEAR(pace.seconds_to_full(10 * kMiB, 10 * kGiB), 10'230, 1.0);
  EXPECT_EQ(pace.amount(10 * kMiB, 10 * kGiB, 10 * kMiB), 0u);
}

TEST(FlushPaceTest, WritingBeginsBeforeTheHorizonAndCoversWhatWillCome) {
  FlushPace pace({});
  pace.observe_memory(0, 0);
  pace.observe_memory(10, 1 * kGiB);  // 100 MiB/s: 10 GiB are full in a minute and a half
  EXPECT_EQ(pace.amount(1 * kGiB, 10 * kGiB, 1 * kGiB), 0u);
  EXPECT_GT(pace.amount(9 * kGiB / 2, 10 * kGiB, 4 * kGiB), 512 * kMiB);  // less than a minute
  EXPECT_EQ(pace.amount(9 * kGiB / 2, 10 * kGiB, 3 * kMiB), 3 * kMiB) << "no more than there is";
}

TEST(FlushPaceTest, ASlowDirectoryIsGivenMoreTime) {
  FlushPace fast({}), slow({});
  for (FlushPace* pace : {&fast, &slow}) {
    pace->observe_memory(0, 0);
    pace->observe_memory(10, 100 * kMiB);  // 10 MiB/s: ten minutes and more to go
  }
  fast.observe_flush(1, 1 * kGiB);
  slow.observe_flush(100, 100 * kMiB);  // 1 MiB/s
  EXPECT_EQ(fast.amount(2 * kGiB, 10 * kGiB, 2 * kGiB), 0u);
  EXPECT_GT(slow.amount(2 * kGiB, 10 * kGiB, 2 * kGiB), 0u);
}

TEST(FlushPaceTest, AboveTheMarkItWritesEvenWhenNothingGrows) {
  FlushPace pace({});
  pace.observe_memory(0, 6 * kGiB);
  pace.observe_memory(10, 6 * kGiB);
  EXPECT_GE(pace.amount(6 * kGiB, 10 * kGiB, 6 * kGiB), 1 * kGiB);
  EXPECT_EQ(pace.amount(6 * kGiB, 10 * kGiB, 0), 0u);
  EXPECT_EQ(pace.amount(6 * kGiB, 0, 6 * kGiB), 0u) << "no limit: nothing is ever evicted";
}

TEST(FlushPaceTest, ARoundWritesNoMoreThanItsAmount) {
  FlushPace pace({.most_bytes = 10 * kMiB});
  pace.observe_memory(0, 6 * kGiB);
  EXPECT_EQ(pace.amount(6 * kGiB, 10 * kGiB, 6 * kGiB), 10 * kMiB);
}

TEST(FlushPaceTest, ADirectoryThatIsSlowOrRefusesIsLeftAloneForLonger) {
  FlushPace pace({});
  EXPECT_EQ(pace.pause(5, 1, 100, 0), 5);
  EXPECT_EQ(pace.pause(5, 20, 100, 0), 20) << "it is busy half of the time at most";
  EXPECT_EQ(pace.pause(5, 300, 100, 0), 60);
  EXPECT_EQ(pace.pause(120, 300, 100, 0), 120) << "never sooner than was asked for";
  EXPECT_EQ(pace.pause(5, 1, 0, 10), 10);
  EXPECT_EQ(pace.pause(5, 1, 0, 10), 20);
  for (int i = 0; i < 100; ++i) pace.pause(5, 1, 0, 10);
  EXPECT_EQ(pace.pause(5, 1, 0, 10), 60);
  EXPECT_EQ(pace.pause(5, 1, 10, 1), 5) << "it takes chunks again";
}

// A job fills Redis at a steady rate; the directory takes twice that, once a second. Nothing is ever refused.
TEST(FlushPaceTest, KeepsAheadOfTheFill) {
  constexpr double kFill = 50.0 * kMiB, kFlush = 100.0 * kMiB;
  constexpr std::uint64_t kMax = 4 * kGiB;
  FlushPace pace({});
  double used = 0, durable = 0, refused = 0, written = 0;
  for (int second = 0; second < 600; ++second) {
    used += kFill;
    if (used > kMax) {  // Redis evicts what is durable, and refuses what it has no room for
      const double evicted = std::min(durable, used - kMax);
      durable -= evicted;
      used -= evicted;
      refused += std::max(0.0, used - kMax);
      used = std::min<double>(used, kMax);
    }
    pace.observe_memory(second, static_cast<std::uint64_t>(used));
    const double dirty = used - durable;
    const double amount = std::min<double>(
        static_cast<double>(pace.amount(static_cast<std::uint64_t>(used), kMax, static_cast<std::uint64_t>(dirty))), kFlush);
    durable += amount;
    written += amount;
    if (amount > 0) pace.observe_flush(amount / kFlush, static_cast<std::uint64_t>(amount));
  }
  EXPECT_EQ(refused, 0);
  EXPECT_LE(written, 600 * kFill);
}

}  // namespace
}  // namespace alnair
