// The order in which durable chunks may leave Redis, under a virtual clock.
#include "cache/redis/flush_policy.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <set>

namespace alnair {
namespace {

ContentHash chunk(std::uint64_t number) {
  Hasher hasher;
  hasher.update_field(number);
  return hasher.finish();
}

std::vector<ContentHash> chunks(std::initializer_list<std::uint64_t> numbers) {
  std::vector<ContentHash> result;
  for (const std::uint64_t number : numbers) result.push_back(chunk(number));
  return result;
}

TEST(FlushPolicyTest, RecencyLetsGoWhatWasUsedLongestAgo) {
  RecencyPolicy policy;
  policy.used(chunks({1, 2}), 1'000);
  policy.used(chunks({1}), 5'000);
  EXPECT_LT(policy.priority(chunk(2), 9'000), policy.priority(chunk(1), 9'000));
  EXPECT_LT(policy.priority(chunk(1), 9'000), policy.priority(chunk(3), 9'000)) << "not seen in use: as if used now";
}

TEST(FlushPolicyTest, FrequencyLetsGoWhatWasUsedLeast) {
  FrequencyPolicy policy;
  policy.used(chunks({1, 2, 1}), 0);
  EXPECT_LT(policy.priority(chunk(3), 2'000'000'000'000), policy.priority(chunk(2), 1'000));
  EXPECT_LT(policy.priority(chunk(2), 2'000'000'000'000), policy.priority(chunk(1), 1'000));
  EXPECT_LT(policy.priority(chunk(2), 1'000), policy.priority(chunk(2), 2'000'000)) << "of equals, the one released first";
}

TEST(FlushPolicyTest, NextUseLetsGoWhatIsNeededLast) {
  NextUsePolicy policy;
  policy.extend(chunks({1, 2, 3, 1}));
  EXPECT_GT(policy.priority(chunk(1), 0), policy.priority(chunk(2), 0));
  EXPECT_GT(policy.priority(chunk(2), 0), policy.priority(chunk(3), 0));
  EXPECT_EQ(policy.priority(chunk(9), 0), 0u) << "never needed";
  policy.used(chunks({1}), 0);
  EXPECT_LT(policy.priority(chunk(1), 0), policy.priority(chunk(3), 0));
  policy.used(chunks({2, 3, 1}), 0);
  EXPECT_EQ(policy.priority(chunk(1), 0), 0u);
}

TEST(FlushPolicyTest, WhatIsTrackedIsBounded) {
  RecencyPolicy recency(2);
  FrequencyPolicy frequency(2);
  for (FlushPolicy* policy : std::initializer_list<FlushPolicy*>{&recency, &frequency}) {
    policy->used(chunks({1, 2}), 1'000);
    policy->used(chunks({3}), 2'000);
    EXPECT_EQ(policy->priority(chunk(1), 7'000), policy->priority(chunk(8), 7'000)) << "forgotten";
  }
}

TEST(FlushPolicyTest, PrioritiesBecomeExpiriesInTheirOrder) {
  EXPECT_LT(expiry_of(0), expiry_of(1));
  EXPECT_GT(expiry_of(0), 4'000'000'000'000);
  EXPECT_EQ(expiry_of(~std::uint64_t{0}), expiry_of(std::uint64_t{1} << 52));
}

// A cache with room for half of a dataset, five epochs in random order. What expires first goes when a chunk comes that was not there
// (or, under Belady's order, that very chunk). Returns the hits.
std::size_t hits_of(FlushPolicy& policy, const std::vector<ContentHash>& order, std::size_t room) {
  std::set<std::pair<std::int64_t, ContentHash>> cached;
  std::unordered_map<ContentHash, std::int64_t> expiry;
  std::size_t hits = 0;
  std::int64_t now = 1'000'000;
  for (const ContentHash& hash : order) {
    now += 1'000;
    policy.used({&hash, 1}, now);
    if (const auto found = expiry.find(hash); found != expiry.end()) {
      ++hits;
      cached.erase({found->second, hash});
    }
    expiry[hash] = expiry_of(policy.priority(hash, now));
    cached.insert({expiry[hash], hash});
    if (cached.size() <= room) continue;
    expiry.erase(cached.begin()->second);
    cached.erase(cached.begin());
  }
  return hits;
}

TEST(FlushPolicyTest, KnowingTheOrderIsAsGoodAsNeverEvictingAndBetterThanAllElse) {
  constexpr std::size_t kChunks = 400, kEpochs = 5, kRoom = kChunks / 2;
  std::mt19937 random(1);
  std::vector<ContentHash> order, epoch(kChunks);
  for (std::size_t i = 0; i < kChunks; ++i) epoch[i] = chunk(i);
  for (std::size_t i = 0; i < kEpochs; ++i) {
    std::shuffle(epoch.begin(), epoch.end(), random);
    order.insert(order.end(), epoch.begin(), epoch.end());
  }
  RecencyPolicy recency;
  FrequencyPolicy frequency;
  NextUsePolicy next_use;
  next_use.extend(order);
  const std::size_t known = hits_of(next_use, order, kRoom);
  const std::size_t never_evicting = kRoom * (kEpochs - 1);
  EXPECT_GE(known, never_evicting) << "as much as can be carried over each end of an epoch";
  EXPECT_GT(known, hits_of(recency, order, kRoom));
  EXPECT_GT(known, hits_of(frequency, order, kRoom));
}

}  // namespace
}  // namespace alnair
