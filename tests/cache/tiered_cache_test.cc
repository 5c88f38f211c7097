#include "cache/tiered/tiered_cache.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <thread>

#include "alnair/core/error.h"
#include "cache/lock_file.h"
#include "support/chunk_origin.h"
#include "support/gated_tier.h"
#include "support/map_source.h"
#include "support/map_tier.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::chunk;
using testing::MapSource;
using testing::MapTier;
using testing::Origin;
using testing::Results;

class TieredCacheTest : public ::testing::Test {
 protected:
  TieredCacheTest() {
    for (int i = 0; i < 100; ++i) source_->put(std::to_string(i), Origin::content(i));
  }

  TieredCache::Options options() {
    TieredCache::Options result;
    result.memory = memory_;
    result.lower = {disk_};
    return result;
  }

  static std::shared_ptr<Results> fetch(TieredCache& cache, const std::shared_ptr<ChunkOrigin>& origin,
                                        const std::vector<ChunkRead>& chunks) {
    auto results = std::make_shared<Results>(chunks.size());
    cache.fetch(origin, chunks, Results::into(results));
    return results;
  }

  std::shared_ptr<MapSource> source_ = std::make_shared<MapSource>();
  std::shared_ptr<Origin> origin_ = std::make_shared<Origin>(source_);
  std::shared_ptr<MapTier> memory_ = std::make_shared<MapTier>("memory");
  std::shared_ptr<MapTier> disk_ = std::make_shared<MapTier>("disk");
};

TEST_F(TieredCacheTest, WhatTheSourceGaveIsInEveryTierAfterwards) {
  TieredCache cache(options());
  const auto results = fetch(cache, origin_, {chunk(1), chunk(2)});
  EXPECT_EQ(results->text(0), Origin::content(1));
  EXPECT_EQ(results->text(1), Origin::content(2));
  cache.flush();
  EXPECT_EQ(memory_->usage().chunks, 2U);
  EXPECT_EQ(disk_->usage().chunks, 2U);
  EXPECT_TRUE(cache.in_memory(*origin_->known_hash(chunk(1))));
}

TEST_F(TieredCacheTest, AHitInALowerTierIsPromotedAndCostsNoRead) {
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1)})->wait();
  cache.flush();
  memory_->clear();
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 1);
  EXPECT_EQ(memory_->usage().chunks, 1U);
}

TEST_F(TieredCacheTest, WhatIsOnItsWayToALowerTierIsAHit) {
  const auto gated = std::make_shared<testing::GatedTier>("disk");
  disk_ = gated;
  memory_ = std::make_shared<MapTier>("memory", 1);  // keeps nothing
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1), chunk(2)})->wait();
  memory_->clear();
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 2);
  EXPECT_TRUE(cache.in_memory(*origin_->known_hash(chunk(1)))) << "promoted";
  gated->open();
  cache.flush();
  EXPECT_EQ(disk_->usage().chunks, 2U);
}

TEST_F(TieredCacheTest, WhatNodeMemoryRefusesIsInThisProcessUntilItIsRead) {
  class FullTier : public MapTier {
   public:
    using MapTier::MapTier;
    void put(std::span<const PutRequest>, std::span<PutOutcome> outcomes) override {
      std::ranges::fill(outcomes, PutOutcome::kRefused);
    }
  };
  memory_ = std::make_shared<FullTier>("memory");
  auto chosen = options();
  chosen.lower = {};
  TieredCache cache(chosen);
  fetch(cache, origin_, {chunk(1)})->wait();
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 1);
  const ContentHash hash = *origin_->known_hash(chunk(1));
  cache.consume({&hash, 1});
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 2) << "it was read; where nothing has room, it is fetched again";
}

TEST_F(TieredCacheTest, AnEmptyTierFallsThroughToTheSource) {
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1)})->wait();
  cache.flush();
  memory_->clear();
  disk_->clear();
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 2);
}

TEST_F(TieredCacheTest, ThreadsThatMissTogetherCauseOneRead) {
  TieredCache cache(options());
  source_->hold();
  std::vector<std::shared_ptr<Results>> all;
  for (int i = 0; i < 8; ++i) all.push_back(fetch(cache, origin_, {chunk(1), chunk(2)}));
  source_->release();
  for (const auto& results : all) {
    EXPECT_EQ(results->text(0), Origin::content(1));
    EXPECT_EQ(results->text(1), Origin::content(2));
  }
  EXPECT_EQ(source_->reads(), 2);
}

TEST_F(TieredCacheTest, TheOriginIsAskedOnceForAChunkInFlight) {
  TieredCache cache(options());
  source_->hold();
  const auto first = fetch(cache, origin_, {chunk(1), chunk(2)}), second = fetch(cache, origin_, {chunk(2), chunk(1)});
  source_->release();
  EXPECT_EQ(first->text(0), Origin::content(1));
  EXPECT_EQ(second->text(0), Origin::content(2));
  EXPECT_EQ(origin_->asked(), 2U);
}

TEST_F(TieredCacheTest, WhatOnlyTheCatalogKnowsIsFoundInNodeMemory) {
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1)})->wait();
  cache.flush();
  disk_->clear();
  origin_->begin_new_life();
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 1);
}

TEST_F(TieredCacheTest, WhatOnlyTheCatalogKnowsIsFoundInALowerTier) {
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1)})->wait();
  cache.flush();
  memory_->clear();
  origin_->begin_new_life();
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 1);
}

TEST_F(TieredCacheTest, AnErrorReachesEveryWaiterAndIsForgotten) {
  TieredCache cache(options());
  source_->fail_reads(std::make_exception_ptr(SourceError("s3://b/k: no luck")));
  source_->hold();
  const auto first = fetch(cache, origin_, {chunk(1)}), second = fetch(cache, origin_, {chunk(1)});
  source_->release();
  EXPECT_EQ(first->text(0), "error: s3://b/k: no luck");
  EXPECT_EQ(second->text(0), "error: s3://b/k: no luck");
  source_->fail_reads(nullptr);
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
}

TEST_F(TieredCacheTest, NeighbouringChunksTravelInOneRequest) {
  source_->put("7", std::string(1000, 'a') + std::string(1000, 'b') + std::string(500, 'c'));
  TieredCache cache(options());
  const auto results = fetch(cache, origin_, {chunk(7, 0, 1000), chunk(7, 1000, 1000), chunk(7, 2000, 500)});
  EXPECT_EQ(results->text(0), std::string(1000, 'a'));
  EXPECT_EQ(results->text(1), std::string(1000, 'b'));
  EXPECT_EQ(results->text(2), std::string(500, 'c'));
  EXPECT_EQ(source_->reads(), 1);
}

TEST_F(TieredCacheTest, RequestsStayBelowTheirLimit) {
  source_->put("7", std::string(4000, 'a'));
  auto limited = options();
  limited.max_read_bytes = 2000;
  TieredCache cache(limited);
  fetch(cache, origin_, {chunk(7, 0, 1000), chunk(7, 1000, 1000), chunk(7, 2000, 1000), chunk(7, 3000, 1000)})->wait();
  EXPECT_EQ(source_->reads(), 2);
}

TEST_F(TieredCacheTest, WhatThePolicyRefusesGoesThroughTransit) {
  memory_ = std::make_shared<MapTier>("memory", 30);
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1), chunk(2), chunk(3), chunk(4)})->wait();
  EXPECT_EQ(memory_->usage().chunks, 4U);
  cache.consume(std::vector<ContentHash>{*origin_->known_hash(chunk(1)), *origin_->known_hash(chunk(2)),
                                         *origin_->known_hash(chunk(3)), *origin_->known_hash(chunk(4))});
  EXPECT_EQ(memory_->usage().chunks, 2U) << "two fit the limit and stay";
}

TEST_F(TieredCacheTest, ADatasetLargerThanTheLowerTiersIsNotKeptTwice) {
  memory_ = std::make_shared<MapTier>("memory", 30);
  origin_->set_fits_lower_tiers(false);
  TieredCache cache(options());
  fetch(cache, origin_, {chunk(1), chunk(2), chunk(3), chunk(4)})->wait();
  cache.flush();
  EXPECT_EQ(disk_->usage().chunks, 2U) << "the two that node memory has no room for";
}

TEST_F(TieredCacheTest, WithoutKeepingOnlyTransitIsUsed) {
  auto transit_only = options();
  transit_only.keep = false;
  TieredCache cache(transit_only);
  fetch(cache, origin_, {chunk(1)})->wait();
  cache.flush();
  EXPECT_EQ(disk_->usage().chunks, 0U);
  EXPECT_EQ(memory_->usage().used_bytes, 0U);
}

TEST_F(TieredCacheTest, WorksWithoutAnyTier) {
  TieredCache cache({});
  EXPECT_EQ(fetch(cache, origin_, {chunk(1)})->text(0), Origin::content(1));
  cache.flush();
}

// Two caches with tiers of their own and one lock file play two processes that share node memory.
TEST_F(TieredCacheTest, WaitsForTheProcessThatHoldsTheLockAndThenFetchesItself) {
  testing::TemporaryDirectory directory;
  auto locked = options();
  locked.locks = {&LockFile::open(directory / "locks")};
  TieredCache cache(locked);
  int to_parent[2];
  ASSERT_EQ(pipe(to_parent), 0);
  const pid_t child = fork();
  if (child == 0) {  // takes the lock, says so, and sleeps until it is killed
    const bool held = LockFile::open(directory / "locks")
                          .try_lock_exclusive(lock_offset(LockPurpose::kSingleFlight, first64(chunk(1).id)));
    if (write(to_parent[1], held ? "y" : "n", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char held = 0;
  ASSERT_EQ(read(to_parent[0], &held, 1), 1);
  ASSERT_EQ(held, 'y');

  const auto results = fetch(cache, origin_, {chunk(1), chunk(2)});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(source_->reads(), 1) << "only the chunk whose lock was free";
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(results->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 2);
  close(to_parent[0]);
  close(to_parent[1]);
}

TEST_F(TieredCacheTest, ChunksThatAnotherProcessBringsMeanwhileAreNotFetched) {
  testing::TemporaryDirectory directory;
  LockFile& locks = LockFile::open(directory / "locks");
  auto locked = options();
  locked.locks = {&locks};
  TieredCache cache(locked);
  const auto offset = lock_offset(LockPurpose::kSingleFlight, first64(chunk(1).id));
  ASSERT_TRUE(locks.try_lock_exclusive(offset));  // held by "another process" from the cache's point of view
  const auto results = fetch(cache, origin_, {chunk(1)});

  Buffer buffer(Origin::content(1).size());
  std::memcpy(buffer.data(), Origin::content(1).data(), buffer.size());
  const View bytes = std::move(buffer).freeze();
  const PutRequest put{.hash = content_hash(bytes.bytes()), .bytes = bytes, .dataset = 1};
  memory_->put({&put, 1}, {});
  origin_->learned_hash(chunk(1), put.hash);
  EXPECT_EQ(results->text(0), Origin::content(1));
  EXPECT_EQ(source_->reads(), 0);
  locks.unlock(offset);
}

// Look-ahead waits for another process, which reads the chunk and lets it go again.
TEST_F(TieredCacheTest, LookAheadDoesNotFetchWhatAnotherProcessHasReadMeanwhile) {
  testing::TemporaryDirectory directory;
  LockFile& locks = LockFile::open(directory / "locks");
  auto locked = options();
  locked.locks = {&locks};
  TieredCache cache(locked);
  const auto ahead = [&](std::uint64_t index) {
    auto results = std::make_shared<Results>(1);
    const ChunkRead read = chunk(index);
    cache.fetch(origin_, {&read, 1}, Results::into(results), 7);
    return results;
  };
  for (const bool reader_joins : {false, true}) {
    const std::uint64_t index = reader_joins ? 2 : 1;
    const auto offset = lock_offset(LockPurpose::kSingleFlight, first64(chunk(index).id));
    ASSERT_TRUE(locks.try_lock_exclusive(offset));  // held by "another process" from the cache's point of view
    const auto results = ahead(index);
    const auto joined = reader_joins ? fetch(cache, origin_, {chunk(index)}) : nullptr;
    const std::string content = Origin::content(index);
    origin_->learned_hash(chunk(index), content_hash(std::as_bytes(std::span(content))));
    locks.unlock(offset);
    EXPECT_EQ(results->text(0), reader_joins ? content : "");
    if (joined != nullptr) { EXPECT_EQ(joined->text(0), content); }
    EXPECT_FALSE(locks.is_locked(offset));
  }
  EXPECT_EQ(source_->reads(), 1) << "the one that somebody reads";
  EXPECT_EQ(ahead(3)->text(0), Origin::content(3));
}

TEST_F(TieredCacheTest, ALockIsFreeAgainAfterEveryOutcome) {
  testing::TemporaryDirectory directory;
  LockFile& locks = LockFile::open(directory / "locks");
  auto locked = options();
  locked.locks = {&locks};
  TieredCache cache(locked);
  fetch(cache, origin_, {chunk(1)})->wait();
  source_->fail_reads(std::make_exception_ptr(SourceError("no")));
  fetch(cache, origin_, {chunk(2)})->wait();
  for (int i : {1, 2})
    EXPECT_FALSE(locks.is_locked(lock_offset(LockPurpose::kSingleFlight, first64(chunk(i).id))));
}

}  // namespace
}  // namespace alnair
