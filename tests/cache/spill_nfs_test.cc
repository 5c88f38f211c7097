// The shared directory on a file system that hangs, fails and hides: what NFS does on a bad day.
#include <gmock/gmock.h>

#include <thread>

#include "cache/directory/spill_tier.h"
#include "core/metrics.h"
#include "directory_support.h"
#include "support/nfs_like.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace testing::disk;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kStall = 2s;
constexpr auto kLong = 60s;

class SpillNfsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    one_ = NfsLike::mount(root_ / "one", root_ / "server");
    two_ = one_ == nullptr ? nullptr : NfsLike::mount(root_ / "two", root_ / "server");
    if (two_ == nullptr) GTEST_SKIP() << "no FUSE here";
  }

  // Two hosts that have mounted the same server.
  std::shared_ptr<Tier> open(const std::string& mountpoint) const {
    SpillOptions options;
    options.directories = {root_ / mountpoint};
    options.node_directory = root_ / ("node-" + mountpoint);
    options.limit_bytes = 64u << 20;
    options.rescan_after = 0ms;
    options.stall_limit = kStall;
    return open_spill(options);
  }

  template <typename Condition>
  static bool comes_true(Condition condition) {
    const auto deadline = Clock::now() + kLong;
    while (!condition()) {
      if (Clock::now() > deadline) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }

  TemporaryDirectory root_;
  std::unique_ptr<NfsLike> one_, two_;
};

TEST_F(SpillNfsTest, HostsFindEachOthersChunksHoweverLateTheySeeThem) {
  two_->command("hide 300");
  const auto writer = open("one"), reader = open("two");
  const auto chunks = make_chunks(30, 10'000, 1);
  EXPECT_EQ(count_stored(*writer, chunks), 30u);
  writer->flush();
  EXPECT_TRUE(comes_true([&] { return count_hits(*reader, chunks) == 30; }));
}

TEST_F(SpillNfsTest, ASegmentThatAnotherHostRemovedIsAMissAndNoFault) {
  const auto writer = open("one"), reader = open("two");
  const auto gone = make_chunks(10, 10'000, 1), stay = make_chunks(10, 10'000, 2, 2);
  count_stored(*writer, gone);
  writer->flush();
  ASSERT_TRUE(comes_true([&] { return count_hits(*reader, gone) == 10; }));  // it has the segment open
  for (const auto& file : files_in(root_ / "server", ".segment")) std::filesystem::remove(file);
  count_stored(*writer, stay);
  writer->flush();
  const auto faults = metrics().value(TierId::kSpill, TierCounter::kFaults);
  const auto corrupt = metrics().value(TierId::kSpill, TierCounter::kCorrupt);
  EXPECT_EQ(count_hits(*reader, gone), 0u);
  EXPECT_TRUE(comes_true([&] { return count_hits(*reader, stay) == 10; }));
  EXPECT_EQ(metrics().value(TierId::kSpill, TierCounter::kFaults), faults);
  EXPECT_EQ(metrics().value(TierId::kSpill, TierCounter::kCorrupt), corrupt);
  // The chunks may be written again.
  EXPECT_TRUE(comes_true([&] { return count_stored(*reader, gone) + count_hits(*reader, gone) >= 10; }));
}

TEST_F(SpillNfsTest, ErrorsAreMissesAndRefusalsUntilTheyEnd) {
  const auto tier = open("one");
  const auto chunks = make_chunks(10, 10'000, 1);
  count_stored(*tier, chunks);
  tier->flush();
  one_->command("error 5");  // EIO
  const auto faults = metrics().value(TierId::kSpill, TierCounter::kFaults);
  EXPECT_EQ(count_hits(*tier, chunks), 0u);
  EXPECT_EQ(count_stored(*tier, make_chunks(10, 10'000, 2)), 0u);
  EXPECT_GT(metrics().value(TierId::kSpill, TierCounter::kFaults), faults);
  one_->command("well");
  EXPECT_TRUE(comes_true([&] { return count_hits(*tier, chunks) == 10; }));
}

TEST_F(SpillNfsTest, AHangCostsOneBoundedWaitAndThenNothing) {
  const auto tier = open("one");
  const auto chunks = make_chunks(10, 10'000, 1), more = make_chunks(10, 10'000, 2);
  count_stored(*tier, chunks);
  tier->flush();
  one_->command("hang");
  const auto start = Clock::now();
  EXPECT_EQ(count_hits(*tier, chunks), 0u);
  EXPECT_EQ(count_stored(*tier, more), 0u);
  EXPECT_LT(Clock::now() - start, kLong);  // it would be for ever
  // From here on nobody waits: thousands of reads and writes take no time at all.
  const auto after = Clock::now();
  for (int i = 0; i < 500; ++i) {
    EXPECT_EQ(count_hits(*tier, chunks), 0u);
    EXPECT_EQ(count_stored(*tier, more), 0u);
  }
  EXPECT_LT(Clock::now() - after, 100 * kStall);  // one stall limit each would be 1000
  one_->command("well");
  EXPECT_TRUE(comes_true([&] { return count_hits(*tier, chunks) == 10; }));
  EXPECT_TRUE(comes_true([&] { return count_stored(*tier, more) + count_hits(*tier, more) >= 10; }));
}

TEST_F(SpillNfsTest, ATierThatOpensWhileItHangsServesWhenItIsBack) {
  const auto chunks = make_chunks(10, 10'000, 1);
  count_stored(*open("two"), chunks);
  one_->command("hang");
  const auto tier = open("one");
  EXPECT_EQ(count_hits(*tier, chunks), 0u);
  one_->command("well");
  EXPECT_TRUE(comes_true([&] { return count_hits(*tier, chunks) == 10; }));
}

TEST_F(SpillNfsTest, ASlowSyncOnlyTakesItsTime) {
  one_->command("sync 200");
  const auto tier = open("one");
  const auto chunks = make_chunks(10, 10'000, 1);
  EXPECT_EQ(count_stored(*tier, chunks), 10u);
  tier->flush();
  EXPECT_EQ(count_hits(*open("two"), chunks), 10u);
}

TEST_F(SpillNfsTest, AServerThatDiesWhileTheTierIsInUseEndsInMisses) {
  const auto tier = open("one");
  const auto chunks = make_chunks(10, 10'000, 1);
  count_stored(*tier, chunks);
  tier->flush();
  one_->command("hang");
  std::thread reader([&] { EXPECT_EQ(count_hits(*tier, chunks), 0u); });
  one_.reset();
  reader.join();
  EXPECT_EQ(count_hits(*tier, chunks), 0u);
}

}  // namespace
}  // namespace alnair
