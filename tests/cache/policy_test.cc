#include "cache/policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace alnair {
namespace {

SegmentInfo segment(DatasetTag dataset, std::uint64_t sequence, std::uint64_t last_use, bool held = false) {
  return {dataset, held, false, sequence, last_use, 100};
}

std::optional<std::size_t> victim(EvictionPolicy policy, const std::vector<SegmentInfo>& segments,
                                  DatasetTag requester = 99) {
  const auto eviction = policy_for(policy).choose(segments, requester);
  return eviction ? std::optional(eviction->victim) : std::nullopt;
}

TEST(NonePolicy, RefusesWhenEveryDatasetIsHeld) {
  EXPECT_EQ(victim(EvictionPolicy::kNone, {}), std::nullopt);
  EXPECT_EQ(victim(EvictionPolicy::kNone, {segment(1, 1, 5, true), segment(2, 2, 3, true)}), std::nullopt);
}

TEST(NonePolicy, DropsTheOldestSegmentOfTheLeastRecentlyUsedDatasetThatNobodyHolds) {
  // Dataset 2 was used last at 30 by its newest segment, dataset 3 at 20: 3 goes, its oldest segment first.
  const std::vector<SegmentInfo> segments{segment(1, 1, 1, true), segment(2, 2, 5),  segment(2, 3, 30),
                                          segment(3, 5, 10),      segment(3, 4, 20), segment(3, 6, 15)};
  EXPECT_EQ(victim(EvictionPolicy::kNone, segments), 4u);
}

TEST(NonePolicy, NeverDropsTheRequestersOwnDatasetUnlessItHasNoName) {
  EXPECT_EQ(victim(EvictionPolicy::kNone, {segment(7, 1, 1)}, 7), std::nullopt);
  EXPECT_EQ(victim(EvictionPolicy::kNone, {segment(7, 1, 1), segment(8, 2, 9)}, 7), 1u);
  EXPECT_EQ(victim(EvictionPolicy::kNone, {segment(0, 1, 1), segment(0, 2, 2)}, 0), 0u);
}

TEST(LruPolicy, DropsTheSegmentWhoseLastUseIsOldestHeldOrNot) {
  EXPECT_EQ(victim(EvictionPolicy::kLru, {}), std::nullopt);
  EXPECT_EQ(victim(EvictionPolicy::kLru, {segment(1, 1, 5), segment(1, 2, 3, true), segment(2, 3, 4)}), 1u);
  EXPECT_EQ(victim(EvictionPolicy::kLru, {segment(1, 9, 5), segment(1, 2, 5)}), 1u);
}

TEST(S3FifoPolicy, DropsTheOldestNewSegmentWhileTheyAreMoreThanATenth) {
  std::vector<SegmentInfo> segments{segment(1, 4, 0), segment(1, 2, 0), segment(1, 1, 0)};
  segments[2].main = true;
  const auto eviction = policy_for(EvictionPolicy::kS3Fifo).choose(segments, 1);
  ASSERT_TRUE(eviction);
  EXPECT_EQ(eviction->victim, 1u);
  EXPECT_TRUE(eviction->keep_read_chunks);
}

TEST(S3FifoPolicy, DropsTheOldestMainSegmentOtherwise) {
  std::vector<SegmentInfo> segments;
  for (std::uint64_t i = 0; i < 12; ++i) {
    segments.push_back(segment(1, 20 - i, 0));
    segments.back().main = i > 0;
  }
  EXPECT_EQ(victim(EvictionPolicy::kS3Fifo, segments), 11u);
  EXPECT_EQ(victim(EvictionPolicy::kS3Fifo, {}), std::nullopt);
}

// Plays accesses to chunks against segments of four chunks each, in virtual time; returns the hits.
std::size_t play(EvictionPolicy policy, const std::vector<int>& accesses, std::size_t capacity) {
  struct Chunk {
    int key;
    bool read;
  };
  struct Segment {
    SegmentInfo info;
    std::vector<Chunk> chunks;
  };
  std::vector<Segment> segments;
  std::uint64_t now = 0, sequence = 0;
  std::size_t hits = 0;
  const auto put = [&](int key, bool main) {
    for (Segment& open : segments)
      if (open.info.main == main && open.chunks.size() < 4) {
        open.chunks.push_back({key, false});
        return;
      }
    segments.push_back({{0, false, main, sequence++, now, 4}, {{key, false}}});
  };
  for (const int key : accesses) {
    ++now;
    bool hit = false;
    for (Segment& each : segments)
      for (Chunk& chunk : each.chunks)
        if (chunk.key == key) {
          hit = chunk.read = true;
          each.info.last_use = now;
        }
    hits += hit;
    if (hit) continue;
    while (segments.size() >= capacity) {
      std::vector<SegmentInfo> infos;
      for (const Segment& each : segments) infos.push_back(each.info);
      const auto eviction = policy_for(policy).choose(infos, 0);
      if (!eviction) break;
      const Segment gone = segments[eviction->victim];
      segments.erase(segments.begin() + static_cast<std::ptrdiff_t>(eviction->victim));
      if (eviction->keep_read_chunks)
        for (const Chunk& chunk : gone.chunks)
          if (chunk.read && segments.size() < capacity) put(chunk.key, true);
    }
    put(key, false);
  }
  return hits;
}

TEST(S3FifoPolicy, KeepsWhatIsReadAgainThroughAScanThatLruForgets) {
  std::vector<int> accesses;
  int scanned = 1000;
  for (int round = 0; round < 200; ++round) {
    for (int hot = 0; hot < 8; ++hot) accesses.insert(accesses.end(), {hot, hot});
    for (int i = 0; i < 60; ++i) accesses.push_back(scanned++);
  }
  EXPECT_GT(play(EvictionPolicy::kS3Fifo, accesses, 10), play(EvictionPolicy::kLru, accesses, 10));
}

}  // namespace
}  // namespace alnair
