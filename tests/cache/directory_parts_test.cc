// The parts of the directory tier that are pure, or nearly so.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "cache/directory/chunk_reads.h"
#include "core/io_pool.h"
#include "cache/directory/segment_format.h"
#include "cache/directory/segment_merge.h"
#include "directory_support.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace std::chrono_literals;
using testing::disk::make_chunk;

SegmentFooter some_footer() {
  SegmentFooter footer;
  footer.nonce = {1, 2, 3};
  footer.dataset = 77;
  footer.records_end = kSegmentHeadBytes;
  for (std::uint32_t i = 0; i < 5; ++i) {
    footer.entries.push_back({make_chunk(i, 10).hash, static_cast<std::uint32_t>(footer.records_end), 10});
    footer.records_end += record_bytes(10);
  }
  return footer;
}

TEST(SegmentFormat, AFooterRoundTrips) {
  const SegmentFooter footer = some_footer();
  const auto bytes = encode_footer(footer);
  EXPECT_EQ(footer_bytes(std::span(bytes).last(kSegmentTrailerBytes), footer.records_end + bytes.size()),
            bytes.size());
  const auto decoded = decode_footer(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->nonce, footer.nonce);
  EXPECT_EQ(decoded->dataset, 77u);
  ASSERT_EQ(decoded->entries.size(), 5u);
  EXPECT_EQ(decoded->entries[4].hash, footer.entries[4].hash);
  EXPECT_EQ(decoded->entries[4].offset, footer.entries[4].offset);
}

TEST(SegmentFormat, AnyOtherBytesAreNoFooter) {
  const auto whole = encode_footer(some_footer());
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    auto bytes = whole;
    bytes[random() % bytes.size()] ^= static_cast<std::byte>(1 + random() % 255);
    EXPECT_FALSE(decode_footer(bytes));
    bytes.resize(random() % bytes.size());
    EXPECT_FALSE(decode_footer(bytes));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    EXPECT_FALSE(decode_footer(bytes));
    if (bytes.size() >= kSegmentTrailerBytes) {
      EXPECT_FALSE(
          footer_bytes(std::span(bytes).last(kSegmentTrailerBytes), random() % kMaxSegmentFileBytes));
    }
  }
}

TEST(SegmentFormat, NamesRoundTripAndOthersAreNone) {
  const SegmentNonce nonce = {0xde, 0xad, 1};
  EXPECT_EQ(parse_segment_name(segment_name(nonce)), nonce);
  const auto open = parse_open_segment_name(open_segment_name(nonce, 42));
  ASSERT_TRUE(open);
  EXPECT_EQ(open->nonce, nonce);
  EXPECT_EQ(open->node, 42u);
  for (const std::string name : {"", ".segment", "x.segment", "README", ".open", "0.0.open"}) {
    EXPECT_FALSE(parse_segment_name(name)) << name;
    EXPECT_FALSE(parse_open_segment_name(name)) << name;
  }
  EXPECT_FALSE(parse_segment_name(open_segment_name(nonce, 42)));
  EXPECT_FALSE(parse_open_segment_name(segment_name(nonce)));
}

TEST(SegmentsToMerge, AreManyOfOneDatasetAndSizeAndFitOneSegment) {
  std::vector<std::pair<std::uint32_t, KnownSegment>> segments;
  const auto add = [&](DatasetTag dataset, std::uint64_t bytes) {
    KnownSegment segment;
    segment.dataset = dataset;
    segment.bytes = bytes;
    segment.created_ns = static_cast<std::int64_t>(segments.size());
    segments.emplace_back(static_cast<std::uint32_t>(segments.size()), segment);
  };
  for (int i = 0; i < 7; ++i) add(1, 5000);
  add(2, 5000);     // another dataset's
  add(1, 400'000);  // another size
  EXPECT_TRUE(segments_to_merge(segments, 1 << 20).empty());
  add(1, 5000);
  EXPECT_EQ(segments_to_merge(segments, 1 << 20).size(), 8u);
  EXPECT_TRUE(segments_to_merge(segments, 30'000).empty());  // only six fit
  for (int i = 0; i < 100; ++i) add(3, 300'000);
  EXPECT_EQ(segments_to_merge(segments, 1 << 20).size(), 8u);  // those are large enough
}

TEST(IoPool, ManyTasksAllRunOnce) {
  std::atomic<int> ran{0}, finished{0};
  struct Count : IoTask {
    std::atomic<int>*ran, *finished;
    void run() noexcept override { ++*ran; }
    void finish(bool completed) noexcept override { *finished += completed; }
  };
  {
    IoPool pool({4, 10s, nullptr});
    for (int i = 0; i < 1000; ++i) {
      auto task = std::make_shared<Count>();
      task->ran = &ran;
      task->finished = &finished;
      EXPECT_TRUE(pool.submit(task));
    }
  }
  EXPECT_EQ(ran, 1000);
  EXPECT_EQ(finished, 1000);
}

TEST(IoPool, ATaskThatMakesProgressDoesNotHangHoweverLongItTakes) {
  std::atomic<int> stalls{0};
  IoPool pool({1, 1s, [&] { ++stalls; }});
  EXPECT_TRUE(run_and_wait(pool, [] {
    for (int i = 0; i < 30; ++i) {
      std::this_thread::sleep_for(50ms);
      IoPool::note_progress();
    }
  }));
  EXPECT_EQ(stalls, 0);
}

TEST(IoPool, WhatWaitsIsReleasedWhenOneTaskHangs) {
  std::atomic<bool> hang{true};
  std::atomic<int> stalls{0};
  IoPool pool({1, 50ms, [&] { ++stalls; }});
  std::thread first([&] {
    EXPECT_FALSE(run_and_wait(pool, [&] {
      while (hang) std::this_thread::sleep_for(1ms);
    }));
  });
  std::atomic<bool> queued_ran{false};
  while (!pool.stalled()) run_and_wait(pool, [&] { queued_ran = !hang; });
  first.join();
  EXPECT_EQ(stalls, 1);
  EXPECT_FALSE(run_and_wait(pool, [] {}));
  hang = false;
  while (!run_and_wait(pool, [] {})) std::this_thread::sleep_for(1ms);
  EXPECT_FALSE(queued_ran);
}

TEST(IoPool, CallbacksMayOwnAndDestroyThePool) {
  struct Last : IoTask {
    std::shared_ptr<IoPool> pool;
    void run() noexcept override {}
    void finish(bool) noexcept override { pool.reset(); }
  };
  auto pool = std::make_shared<IoPool>(IoPool::Options{2, 10s, nullptr});
  auto task = std::make_shared<Last>();
  task->pool = pool;
  std::weak_ptr<IoPool> alive = pool;
  IoPool& used = *pool;
  pool.reset();
  EXPECT_TRUE(used.submit(std::move(task)));
  while (!alive.expired()) std::this_thread::sleep_for(1ms);
}

}  // namespace
}  // namespace alnair
