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
  constexpr std::int64_t kNow = 1'800'000'000'000;
  const auto priority = [&](std::uint64_t number) { return policy.priority(chunk(number), kNow); };
  policy.expect(chunks({1, 2, 3}), true);
  EXPECT_GT(priority(1), priority(2));
  EXPECT_GT(priority(2), priority(3));
  EXPECT_GT(priority(3), priority(9)) << "it is not known to be needed";
  policy.used(chunks({1}), kNow);
  policy.used(chunks({2}), kNow + 1'000);
  EXPECT_GT(priority(9), priority(1)) << "which has had its turn in this epoch";
  EXPECT_GT(priority(1), priority(2)) << "and will have it sooner in the next one, if they are alike";
  policy.expect(chunks({4, 1}), false);
  EXPECT_GT(priority(3), priority(4)) << "after what was expected before";
  EXPECT_GT(priority(4), priority(1));
  EXPECT_GT(priority(1), priority(9));
  policy.expect(chunks({4}), true);
  EXPECT_EQ(priority(3), priority(9)) << "the order was given up";
  EXPECT_GT(priority(4), priority(3));
}

// Whatever other processes name, their priorities are of one scale.
TEST(FlushPolicyTest, WhatIsReleasedWithoutAPolicyIsBetweenWhatWasReadAndWhatWillBe) {
  NextUsePolicy policy;
  policy.expect(chunks({1}), true);
  for (const std::int64_t now : {1'700'000'000'000, 1'900'000'000'000, 4'000'000'000'000}) {
    policy.used(chunks({2}), now);
    EXPECT_LT(policy.priority(chunk(2), now), static_cast<std::uint64_t>(now));
    EXPECT_GT(policy.priority(chunk(1), now), static_cast<std::uint64_t>(now));
    EXPECT_LT(expiry_of(policy.priority(chunk(1), now)), std::int64_t{1} << 53);
  }
}

TEST(FlushPolicyTest, WhatIsTrackedIsBounded) {
  RecencyPolicy recency(2);
  FrequencyPolicy frequency(2);
  for (FlushPolicy* policy : std::initializer_list<FlushPolicy*>{&recency, &frequency}) {
    policy->used(chunks({1, 2}), 1'000);
    policy->used(chunks({3}), 2'000);
    EXPECT_EQ(policy->priority(chunk(1), 7'000), policy->priority(chunk(8), 7'000)) << "forgotten";
  }
  NextUsePolicy next_use(8);
  next_use.expect(chunks({1, 2, 3, 4, 5, 6}), true);
  EXPECT_GT(next_use.priority(chunk(4), 7'000), 7'000u);
  EXPECT_EQ(next_use.priority(chunk(5), 7'000), 7'000u) << "too far away";
  next_use.used(chunks({1, 2, 3, 4}), 7'000);
  next_use.expect(chunks({6}), false);
  EXPECT_GT(next_use.priority(chunk(6), 7'000), 7'000u) << "there is room for it now";
}

TEST(FlushPolicyTest, PrioritiesBecomeExpiriesInTheirOrder) {
  EXPECT_LT(expiry_of(0), expiry_of(1));
  EXPECT_GT(expiry_of(0), 4'000'000'000'000);
  EXPECT_EQ(expiry_of(~std::uint64_t{0}), expiry_of(std::uint64_t{1} << 52));
}

// A cache with room for half of a dataset, five epochs in random order. What expires first goes when a chunk comes that was not there
// (or, under Belady's order, that very chunk). Returns the hits.
std::size_t hits_of(FlushPolicy& policy, const std::vector<ContentHash>& order, std::size_t room, std::size_t epoch) {
  std::set<std::pair<std::int64_t, ContentHash>> cached;
  std::unordered_map<ContentHash, std::int64_t> expiry;
  std::size_t hits = 0;
  std::int64_t now = 1'000'000;
  for (std::size_t position = 0; position < order.size(); ++position) {
    const ContentHash& hash = order[position];
    now += 1'000;
    if (position % epoch == 0) policy.expect(std::span(order).subspan(position, epoch), true);
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
  const std::size_t known = hits_of(next_use, order, kRoom, kChunks);
  const std::size_t never_evicting = kRoom * (kEpochs - 1);
  EXPECT_GE(known, never_evicting) << "as much as can be carried over each end of an epoch";
  EXPECT_GT(known, hits_of(recency, order, kRoom, kChunks));
  EXPECT_GT(known, hits_of(frequency, order, kRoom, kChunks));
}

}  // namespace
}  // namespace alnair
