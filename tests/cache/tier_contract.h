// What every tier promises (alnair/cache/tier.h), as one suite of tests that each tier's test file
// instantiates:
//
//   struct MemoryTier {
//     static std::string base();              // where to make directories
//     static constexpr std::uint64_t kLimit;  // bytes to open it with; room for at least 6 MiB of chunks
//     static constexpr bool kHoldsDatasets;   // under its policy a held dataset stays
//     static std::shared_ptr<Tier> open(const std::string& directory, std::uint64_t limit);
//     static constexpr bool kLimitIsTheServers = true;  // optional: it has no limit of its own
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(Memory, TierContract, MemoryTier);
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "alnair/cache/tier.h"
#include "support/temporary_directory.h"

namespace alnair::testing {

// Bytes that are a function of (seed, size), and their hash.
struct Chunk {
  ContentHash hash;
  View bytes;
};

inline Chunk make_chunk(std::uint64_t seed, std::uint64_t size) {
  Buffer buffer(size);
  std::mt19937_64 random(seed * 1'000'003 + size);
  for (std::uint64_t at = 0; at < size; at += 8) {
    const std::uint64_t word = random();
    std::memcpy(buffer.data() + at, &word, std::min<std::uint64_t>(8, size - at));
  }
  View bytes = std::move(buffer).freeze();
  return {content_hash(bytes.bytes()), bytes};
}

// get() as a function; fails the test if an outcome is missing or comes twice.
inline std::vector<std::optional<View>> get_all(Tier& tier, const std::vector<ContentHash>& hashes) {
  struct State {
    std::mutex mutex;
    std::condition_variable done;
    std::vector<std::optional<View>> views;
    std::vector<int> calls;
    std::size_t remaining;
  };
  auto state = std::make_shared<State>();
  state->views.resize(hashes.size());
  state->calls.resize(hashes.size());
  state->remaining = hashes.size();
  tier.get(hashes, [state](std::size_t i, std::optional<View> view) {
    const std::lock_guard guard(state->mutex);
    state->views.at(i) = std::move(view);
    EXPECT_EQ(++state->calls[i], 1);
    if (--state->remaining == 0) state->done.notify_all();
  });
  std::unique_lock lock(state->mutex);
  EXPECT_TRUE(state->done.wait_for(lock, std::chrono::seconds(60), [&] { return state->remaining == 0; }));
  return state->views;
}

inline std::optional<View> get_one(Tier& tier, const ContentHash& hash) {
  return get_all(tier, {hash}).at(0);
}

inline PutOutcome put_one(Tier& tier, const Chunk& chunk, DatasetTag dataset = 0, bool transit = false) {
  const PutRequest request{chunk.hash, chunk.bytes, dataset, transit};
  PutOutcome outcome = PutOutcome::kRefused;
  tier.put({&request, 1}, {&outcome, 1});
  return outcome;
}

inline bool same_bytes(const std::optional<View>& view, const Chunk& chunk) {
  return view.has_value() && view->text() == chunk.bytes.text();
}

template <typename TierType>
class TierContract : public ::testing::Test {
 protected:
  std::shared_ptr<Tier> open() { return TierType::open(directory_.path(), TierType::kLimit); }

  TemporaryDirectory directory_{TierType::base()};
};
TYPED_TEST_SUITE_P(TierContract);

TYPED_TEST_P(TierContract, FindsWhatWasPutByteForByteAtEverySize) {
  const auto tier = this->open();
  for (const std::uint64_t size : {0, 1, 15, 16, 17, 48, 4095, 4096, 110'000, 1'000'000}) {
    const Chunk chunk = make_chunk(1, size);
    EXPECT_EQ(put_one(*tier, chunk), PutOutcome::kStored) << size;
    tier->flush();
    EXPECT_TRUE(same_bytes(get_one(*tier, chunk.hash), chunk)) << size;
  }
}

TYPED_TEST_P(TierContract, AnswersEveryHashOfABatchMissesAndRepetitionsIncluded) {
  const auto tier = this->open();
  const Chunk first = make_chunk(1, 1000), second = make_chunk(2, 2000), absent = make_chunk(3, 3000);
  put_one(*tier, first);
  put_one(*tier, second);
  tier->flush();
  const auto views = get_all(*tier, {second.hash, absent.hash, first.hash, second.hash});
  EXPECT_TRUE(same_bytes(views[0], second));
  EXPECT_FALSE(views[1].has_value());
  EXPECT_TRUE(same_bytes(views[2], first));
  EXPECT_TRUE(same_bytes(views[3], second));
  tier->get({}, [](std::size_t, std::optional<View>) { FAIL(); });
}

TYPED_TEST_P(TierContract, StoresAChunkOnceAndSaysSo) {
  const auto tier = this->open();
  const Chunk chunk = make_chunk(1, 5000);
  const std::vector<PutRequest> requests{{chunk.hash, chunk.bytes}, {chunk.hash, chunk.bytes}};
  std::vector<PutOutcome> outcomes(2);
  tier->put(requests, outcomes);
  EXPECT_EQ(outcomes[0], PutOutcome::kStored);
  EXPECT_EQ(outcomes[1], PutOutcome::kPresent);
  tier->flush();
  EXPECT_EQ(put_one(*tier, chunk), PutOutcome::kPresent);
  EXPECT_TRUE(same_bytes(get_one(*tier, chunk.hash), chunk));
  tier->put(requests, {});  // outcomes are optional
}

TYPED_TEST_P(TierContract, ContainsTellsWhatAGetWouldFind) {
  const auto tier = this->open();
  const Chunk chunk = make_chunk(1, 5000), absent = make_chunk(2, 5000);
  put_one(*tier, chunk);
  tier->flush();
  const ContentHash hashes[] = {absent.hash, chunk.hash};
  bool present[] = {true, false};
  tier->contains(hashes, present);
  EXPECT_FALSE(present[0]);
  EXPECT_TRUE(present[1]);
}

TYPED_TEST_P(TierContract, AnErasedChunkIsGoneOrStillRightAndCanBePutAgain) {
  const auto tier = this->open();
  const Chunk chunk = make_chunk(1, 5000), other = make_chunk(2, 5000);
  put_one(*tier, chunk);
  put_one(*tier, other);
  tier->flush();
  tier->erase(chunk.hash);
  tier->erase(make_chunk(3, 5000).hash);
  const auto view = get_one(*tier, chunk.hash);
  EXPECT_TRUE(!view || same_bytes(view, chunk));
  put_one(*tier, chunk);
  tier->flush();
  EXPECT_TRUE(same_bytes(get_one(*tier, chunk.hash), chunk));
  EXPECT_TRUE(same_bytes(get_one(*tier, other.hash), other));
}

TYPED_TEST_P(TierContract, HoldsItsLimitAndWhatItReturnsIsRightAllTheWhile) {
  if constexpr (requires { TypeParam::kLimitIsTheServers; }) GTEST_SKIP() << "others decide on its limit";
  const auto tier = this->open();
  for (std::uint64_t i = 0; i < 3 * TypeParam::kLimit / 50'000; ++i) {
    const Chunk chunk = make_chunk(i, 50'000);
    put_one(*tier, chunk, 1 + i / 100);
    if (i % 16 == 0) {
      const TierUsage usage = tier->usage();
      ASSERT_LE(usage.used_bytes, TypeParam::kLimit);
      ASSERT_EQ(usage.limit_bytes, TypeParam::kLimit);
      const auto view = get_one(*tier, chunk.hash);
      ASSERT_TRUE(!view || same_bytes(view, chunk));
    }
  }
  tier->flush();
  EXPECT_LE(tier->usage().used_bytes, TypeParam::kLimit);
  EXPECT_GE(tier->usage().used_bytes, TypeParam::kLimit / 3);
}

TYPED_TEST_P(TierContract, RefusesAChunkLargerThanItself) {
  if constexpr (requires { TypeParam::kLimitIsTheServers; }) GTEST_SKIP() << "others decide on its limit";
  const auto tier = this->open();
  EXPECT_EQ(put_one(*tier, make_chunk(1, TypeParam::kLimit + 1)), PutOutcome::kRefused);
  EXPECT_EQ(put_one(*tier, make_chunk(1, 1000)), PutOutcome::kStored);
}

TYPED_TEST_P(TierContract, ViewsOutliveEviction) {
  const auto tier = this->open();
  const Chunk chunk = make_chunk(1, 100'000);
  ASSERT_EQ(put_one(*tier, chunk, 1), PutOutcome::kStored);
  tier->flush();
  const auto view = get_one(*tier, chunk.hash);
  ASSERT_TRUE(same_bytes(view, chunk));
  for (std::uint64_t i = 0; i < 3 * TypeParam::kLimit / 50'000; ++i)
    put_one(*tier, make_chunk(i, 50'000), 2 + i / 20);
  tier->flush();
  EXPECT_TRUE(same_bytes(view, chunk));
}

TYPED_TEST_P(TierContract, ADatasetThatALiveJobHoldsStaysAndOthersGo) {
  if (!TypeParam::kHoldsDatasets) GTEST_SKIP() << "its policy evicts held datasets too";
  const auto tier = this->open();
  const Chunk held = make_chunk(1, 10'000);
  tier->hold_dataset(7);
  ASSERT_EQ(put_one(*tier, held, 7), PutOutcome::kStored);
  tier->flush();
  for (std::uint64_t i = 0; i < 3 * TypeParam::kLimit / 50'000; ++i)
    put_one(*tier, make_chunk(i, 50'000), 100 + i / 20);
  tier->flush();
  EXPECT_TRUE(same_bytes(get_one(*tier, held.hash), held));
  tier->release_dataset(7);
  for (std::uint64_t i = 0; i < 3 * TypeParam::kLimit / 50'000; ++i)
    put_one(*tier, make_chunk(i, 50'001), 900 + i / 20);
  tier->flush();
  EXPECT_FALSE(get_one(*tier, held.hash).has_value());
}

TYPED_TEST_P(TierContract, ATierOpenedLaterFindsWhatWasFlushed) {
  const Chunk chunk = make_chunk(1, 20'000);
  {
    const auto tier = this->open();
    put_one(*tier, chunk);
    tier->flush();
  }
  const auto tier = this->open();
  EXPECT_TRUE(same_bytes(get_one(*tier, chunk.hash), chunk));
}

TYPED_TEST_P(TierContract, ThreadsPutAndGetAtOnce) {
  const auto tier = this->open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 100; ++i) {
        const Chunk chunk =
            make_chunk((i + static_cast<std::uint64_t>(t) * 20) % 150, 3000);  // threads overlap
        ASSERT_NE(put_one(*tier, chunk), PutOutcome::kRefused);
        const auto view = get_one(*tier, chunk.hash);
        ASSERT_TRUE(!view || same_bytes(view, chunk));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  tier->flush();
  for (std::uint64_t i = 0; i < 150; ++i) {
    const Chunk chunk = make_chunk(i, 3000);
    EXPECT_TRUE(same_bytes(get_one(*tier, chunk.hash), chunk)) << i;
  }
}

TYPED_TEST_P(TierContract, ProcessesShareIt) {
  std::vector<pid_t> children;
  for (std::uint64_t c = 0; c < 4; ++c) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    bool right = true;
    {
      const auto tier = this->open();
      for (std::uint64_t i = c * 20; i < c * 20 + 40; ++i)
        right &= put_one(*tier, make_chunk(i, 9000)) != PutOutcome::kRefused;
      tier->flush();
      for (std::uint64_t i = 0; i < 100; ++i) {
        const auto view = get_one(*tier, make_chunk(i, 9000).hash);
        right &= !view || same_bytes(view, make_chunk(i, 9000));
      }
    }
    _exit(right && !::testing::Test::HasFailure() ? 0 : 1);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const auto tier = this->open();
  for (std::uint64_t i = 0; i < 100; ++i) {
    const Chunk chunk = make_chunk(i, 9000);
    EXPECT_TRUE(same_bytes(get_one(*tier, chunk.hash), chunk)) << i;
  }
}

REGISTER_TYPED_TEST_SUITE_P(TierContract, FindsWhatWasPutByteForByteAtEverySize,
                            AnswersEveryHashOfABatchMissesAndRepetitionsIncluded, StoresAChunkOnceAndSaysSo,
                            ContainsTellsWhatAGetWouldFind, AnErasedChunkIsGoneOrStillRightAndCanBePutAgain,
                            HoldsItsLimitAndWhatItReturnsIsRightAllTheWhile, RefusesAChunkLargerThanItself,
                            ViewsOutliveEviction, ADatasetThatALiveJobHoldsStaysAndOthersGo,
                            ATierOpenedLaterFindsWhatWasFlushed, ThreadsPutAndGetAtOnce, ProcessesShareIt);

}  // namespace alnair::testing
