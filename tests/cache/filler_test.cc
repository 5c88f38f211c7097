#include "cache/tiered/filler.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "support/gated_tier.h"

namespace alnair {
namespace {

using testing::GatedTier;
using testing::MapTier;

PutRequest request(const std::string& text) {
  Buffer buffer(text.size());
  std::memcpy(buffer.data(), text.data(), text.size());
  View bytes = std::move(buffer).freeze();
  const ContentHash hash = content_hash(bytes.bytes());
  return {.hash = hash, .bytes = std::move(bytes), .dataset = 1};
}

class FillerTest : public ::testing::Test {
 protected:
  Filler::Options options(std::uint64_t limit = 1 << 20, std::uint64_t patient_limit = 1 << 20) {
    return {.memory = memory_, .tiers = {disk_}, .limit = limit, .patient_limit = patient_limit};
  }
  bool on_disk(const PutRequest& what) {
    bool present = false;
    disk_->contains({&what.hash, 1}, {&present, 1});
    return present;
  }
  // Whether it gets there without flush().
  bool reaches_disk(const PutRequest& what) {
    for (int i = 0; i < 6000 && !on_disk(what); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return on_disk(what);
  }

  std::shared_ptr<MapTier> memory_ = std::make_shared<MapTier>("memory");
  std::shared_ptr<MapTier> disk_ = std::make_shared<MapTier>("disk");
  const PutRequest a_ = request("a chunk"), b_ = request("another one");
};

TEST_F(FillerTest, WhatNodeMemoryKeepsIsReadFromThereAndWrittenAtFlush) {
  Filler filler(options());
  memory_->put({&a_, 1}, {});
  EXPECT_TRUE(filler.add(a_, true));
  EXPECT_TRUE(filler.add(b_, true)) << "lost by node memory meanwhile";
  filler.flush();
  EXPECT_TRUE(on_disk(a_));
  EXPECT_FALSE(on_disk(b_));
  EXPECT_EQ(disk_->peek(a_.hash)->text(), "a chunk");
}

TEST_F(FillerTest, NothingWaitsForEver) {
  Filler filler(options());
  memory_->put({&a_, 1}, {});
  EXPECT_TRUE(filler.add(a_, true));
  EXPECT_TRUE(filler.add(b_, false));
  EXPECT_TRUE(reaches_disk(b_)) << "node memory does not keep it";
  EXPECT_TRUE(reaches_disk(a_)) << "no chunk came for a moment";
}

TEST_F(FillerTest, TiersAreFlushedWhenNoChunkHasComeForAWhile) {
  class CountingTier : public MapTier {
   public:
    using MapTier::MapTier;
    void flush() override { ++flushes; }
    std::atomic<int> flushes{0};
  };
  const auto counting = std::make_shared<CountingTier>("disk");
  disk_ = counting;
  auto chosen = options();
  chosen.flush_after = std::chrono::milliseconds(1);
  Filler filler(chosen);
  filler.add(a_, false);
  for (int i = 0; i < 6000 && counting->flushes == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(counting->flushes, 1);
  EXPECT_TRUE(on_disk(a_));
}

TEST_F(FillerTest, WritesWhatWaitsBeforeItEnds) {
  memory_->put({&a_, 1}, {});
  {
    Filler filler(options());
    filler.add(a_, true);
    filler.add(b_, false);
  }
  EXPECT_TRUE(on_disk(a_));
  EXPECT_TRUE(on_disk(b_));
}

TEST_F(FillerTest, AFullQueueRefusesAndSaysThatItIsBehind) {
  const auto gated = std::make_shared<GatedTier>("disk");
  disk_ = gated;
  Filler filler(options(10));
  EXPECT_FALSE(filler.behind());
  EXPECT_TRUE(filler.add(b_, false)) << "a chunk larger than the limit passes through an empty queue";
  EXPECT_TRUE(filler.behind());
  EXPECT_FALSE(filler.add(a_, false));
  gated->open();
  filler.flush();
  EXPECT_FALSE(filler.behind());
  EXPECT_TRUE(filler.add(a_, false));
}

TEST_F(FillerTest, WhatIsOnItsWayCanBeRead) {
  const auto gated = std::make_shared<GatedTier>("disk");
  disk_ = gated;
  Filler filler(options());
  EXPECT_FALSE(filler.find(a_.hash));
  filler.add(a_, false);
  ASSERT_TRUE(filler.find(a_.hash));
  EXPECT_EQ(filler.find(a_.hash)->text(), "a chunk");
  gated->open();
  filler.flush();
  EXPECT_TRUE(on_disk(a_));
  EXPECT_FALSE(filler.find(a_.hash)) << "the tier has it";
}

TEST_F(FillerTest, WhatExceedsTheLimitOfNodeMemoryIsWrittenFromItsBytes) {
  memory_->put({&b_, 1}, {});
  const auto gated = std::make_shared<GatedTier>("disk");
  disk_ = gated;
  Filler filler(options(1 << 20, 10));
  EXPECT_TRUE(filler.add(b_, true));
  EXPECT_TRUE(filler.behind());
  EXPECT_TRUE(filler.add(a_, true));
  EXPECT_TRUE(filler.find(a_.hash)) << "node memory may evict it";
  gated->open();
  filler.flush();
  EXPECT_TRUE(on_disk(a_));
  EXPECT_TRUE(on_disk(b_));
}

TEST_F(FillerTest, WhatANearlyFullNodeMemoryMayEvictIsWrittenFromItsBytes) {
  memory_ = std::make_shared<MapTier>("memory", 12);
  memory_->put({&b_, 1}, {});
  const auto gated = std::make_shared<GatedTier>("disk");
  disk_ = gated;
  Filler filler(options());
  EXPECT_TRUE(filler.add(b_, true));
  memory_->clear();
  EXPECT_TRUE(filler.find(b_.hash));
  gated->open();
  filler.flush();
  EXPECT_TRUE(on_disk(b_));
}

TEST_F(FillerTest, ADatasetThatEveryTierRefusesIsNotQueuedForAMoment) {
  disk_ = std::make_shared<MapTier>("disk", 20);
  Filler filler(options());
  const PutRequest large = request("more than the tier has room for");
  PutRequest other = request("of another dataset, no less large");
  other.dataset = 2;
  for (int i = 0; i < 64; ++i) EXPECT_TRUE(filler.add(large, false));
  filler.flush();
  EXPECT_FALSE(filler.add(large, false));
  EXPECT_TRUE(filler.add(other, false));
  bool again = false;
  for (int i = 0; i < 3000 && !again; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    again = filler.add(large, false);
  }
  EXPECT_TRUE(again) << "there may be room by now";
}

TEST_F(FillerTest, FlushDoesNotWaitForWhatIsQueuedMeanwhile) {
  memory_->put({&a_, 1}, {});
  Filler filler(options());
  filler.add(a_, true);
  std::atomic<bool> flushed{false};
  std::thread producer([&] {
    while (!flushed) filler.add(request("always something"), false);
  });
  filler.flush();
  flushed = true;
  producer.join();
  EXPECT_TRUE(on_disk(a_));
}

}  // namespace
}  // namespace alnair
