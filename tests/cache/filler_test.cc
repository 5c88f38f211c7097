#include "cache/tiered/filler.h"

#include <gmock/gmock.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "support/map_tier.h"

namespace alnair {
namespace {

using testing::MapTier;

PutRequest request(const std::string& text) {
  Buffer buffer(text.size());
  std::memcpy(buffer.data(), text.data(), text.size());
  View bytes = std::move(buffer).freeze();
  const ContentHash hash = content_hash(bytes.bytes());
  return {.hash = hash, .bytes = std::move(bytes), .dataset = 1};
}

// Its puts wait until open().
class GatedTier : public MapTier {
 public:
  using MapTier::MapTier;
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override {
    {
      std::unique_lock lock(gate_mutex_);
      opened_.wait(lock, [&] { return open_; });
    }
    MapTier::put(requests, outcomes);
  }
  void open() {
    {
      const std::lock_guard lock(gate_mutex_);
      open_ = true;
    }
    opened_.notify_all();
  }

 private:
  std::mutex gate_mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

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
  memory_->put({&b_, 1}, {});
  for (const bool in_memory : {false, true}) {
    const auto gated = std::make_shared<GatedTier>("disk");
    disk_ = gated;
    Filler filler(options(in_memory ? 1 << 20 : 10, in_memory ? 10 : 1 << 20));
    EXPECT_FALSE(filler.behind());
    EXPECT_TRUE(filler.add(b_, in_memory)) << "a chunk larger than the limit passes through an empty queue";
    EXPECT_TRUE(filler.behind());
    EXPECT_FALSE(filler.add(a_, in_memory));
    gated->open();
    filler.flush();
    EXPECT_FALSE(filler.behind());
    EXPECT_TRUE(filler.add(a_, in_memory));
  }
}

}  // namespace
}  // namespace alnair
