#include "dataset/prefetcher.h"

#include <gmock/gmock.h>

#include <condition_variable>
#include <numeric>

namespace alnair {
namespace {

// Plays the tiered cache: notes what is started, lands it when told to.
class PrefetcherTest : public ::testing::Test {
 protected:
  Prefetcher::Target target() {
    return {.size_of = [](std::uint64_t index) { return index + 1; },
            .mark_of = [this](std::uint64_t index) { return index == brought_ ? 1u : 0u; },
            .start =
                [this](std::span<const Prefetcher::Object> objects, std::function<void(std::uint64_t)> landed) {
                  {
                    const std::lock_guard lock(mutex_);
                    for (const Prefetcher::Object& object : objects) {
                      started_.push_back(object.index);
                      if (!automatic_) landings_.push_back(landed);
                    }
                  }
                  changed_.notify_all();
                  if (automatic_) landed(objects.size());
                },
            .must_wait = [this] { return waiting_.load(); },
            .room = [this] { return room_.load(); }};
  }

  std::vector<std::uint64_t> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return started_.size() >= count; });
    return started_;
  }

  // What has been started once the prefetcher has had every chance to start more.
  std::vector<std::uint64_t> settled() {
    for (int i = 0; i < 20; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const std::lock_guard lock(mutex_);
    return started_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> started_;
  std::vector<std::function<void(std::uint64_t)>> landings_;
  bool automatic_ = true;
  std::atomic<bool> waiting_{false};
  std::atomic<std::uint64_t> room_{1 << 30};
  std::atomic<std::uint64_t> brought_{0};  // the index of an object that somebody else has brought
};

using ::testing::ElementsAre;

TEST_F(PrefetcherTest, WalksTheOrderWithinItsBudget) {
  Prefetcher prefetcher(target());
  prefetcher.set_order({9, 9, 9, 9, 9}, 20);  // ten bytes each
  EXPECT_THAT(wait_for(2), ElementsAre(9, 9));
  EXPECT_EQ(settled().size(), 2U);
  prefetcher.advance(1);
  EXPECT_EQ(wait_for(3).size(), 3U);
  EXPECT_EQ(settled().size(), 3U);
  prefetcher.advance(5);
  EXPECT_EQ(settled().size(), 3U) << "what the consumer has passed is not fetched";
}

TEST_F(PrefetcherTest, AnObjectLargerThanTheBudgetGoesAlone) {
  Prefetcher prefetcher(target());
  prefetcher.set_order({99, 99}, 10);
  EXPECT_EQ(wait_for(1).size(), 1U);
  EXPECT_EQ(settled().size(), 1U);
  prefetcher.advance(1);
  EXPECT_EQ(wait_for(2).size(), 2U);
}

TEST_F(PrefetcherTest, BoundsWhatIsOnItsWay) {
  automatic_ = false;
  Prefetcher prefetcher(target());
  prefetcher.set_order(std::vector<std::uint64_t>(2000, 0), 1 << 20);
  wait_for(Prefetcher::kMaxInFlight);
  EXPECT_EQ(settled().size(), Prefetcher::kMaxInFlight);
  std::vector<std::function<void(std::uint64_t)>> landings;
  {
    const std::lock_guard lock(mutex_);
    landings.assign(landings_.begin(), landings_.begin() + 100);
  }
  for (const auto& land : landings) land(1);
  EXPECT_GT(wait_for(Prefetcher::kMaxInFlight + 1).size(), Prefetcher::kMaxInFlight);
  EXPECT_LE(settled().size(), Prefetcher::kMaxInFlight + 100);
}

TEST_F(PrefetcherTest, ExtendsAndCancels) {
  Prefetcher prefetcher(target());
  prefetcher.set_order({1}, 1000);
  EXPECT_THAT(wait_for(1), ElementsAre(1));
  const std::vector<std::uint64_t> more = {2, 3};
  prefetcher.extend(more);
  EXPECT_THAT(wait_for(3), ElementsAre(1, 2, 3));
  prefetcher.cancel();
  prefetcher.set_order({7}, 1000);
  EXPECT_THAT(wait_for(4), ElementsAre(1, 2, 3, 7));
}

TEST_F(PrefetcherTest, WaitsForTiersThatAreBehind) {
  waiting_ = true;
  Prefetcher prefetcher(target());
  prefetcher.set_order({1, 2}, 1000);
  EXPECT_TRUE(settled().empty());
  waiting_ = false;
  EXPECT_EQ(wait_for(2).size(), 2U);
}

TEST_F(PrefetcherTest, LeavesAloneWhatSomebodyHasBroughtSinceItWasDrawn) {
  waiting_ = true;
  Prefetcher prefetcher(target());
  prefetcher.set_order({1, 2, 3, 4}, 1000);
  prefetcher.advance(0, 3);
  brought_ = 2;
  waiting_ = false;
  EXPECT_THAT(wait_for(3), ElementsAre(1, 3, 4));
  prefetcher.set_order({2, 3}, 1000);
  EXPECT_THAT(wait_for(5), ElementsAre(1, 3, 4, 2, 3)) << "it was brought before it was drawn";
}

TEST_F(PrefetcherTest, LeavesAloneWhatAReaderHereHasFetchedForItself) {
  waiting_ = true;
  Prefetcher prefetcher(target());
  prefetcher.set_order({1, 2, 3, 4}, 1000);
  prefetcher.draw(std::vector<std::uint64_t>{4});
  prefetcher.draw(std::vector<std::uint64_t>{1, 2});
  brought_ = 2;
  waiting_ = false;
  EXPECT_THAT(wait_for(3), ElementsAre(1, 3, 4));
}

TEST_F(PrefetcherTest, KeepsToTheRoomThatThereIsForNow) {
  room_ = 20;
  Prefetcher prefetcher(target());
  prefetcher.set_order({9, 9, 9, 9, 9}, 1000);
  EXPECT_EQ(wait_for(2).size(), 2U);
  EXPECT_EQ(settled().size(), 2U);
  room_ = 40;
  prefetcher.advance(1);
  EXPECT_EQ(wait_for(5).size(), 5U);
}

TEST_F(PrefetcherTest, LandingsAfterItsEndAreHarmless) {
  automatic_ = false;
  {
    Prefetcher prefetcher(target());
    prefetcher.set_order({1, 2}, 1000);
    wait_for(2);
  }
  for (const auto& landed : landings_) landed(1);
}

}  // namespace
}  // namespace alnair
