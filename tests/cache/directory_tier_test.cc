#include "cache/directory/directory_tier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "alnair/core/error.h"
#include "directory_support.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace testing::disk;
namespace fs = std::filesystem;

// With and without what the processes of a node share.
class DirectoryTierTest : public ::testing::TestWithParam<bool> {
 protected:
  DirectoryOptions options() const {
    DirectoryOptions options;
    options.directory = cache_;
    if (GetParam()) options.node_directory = root_ / "node";
    options.limit_bytes = 64u << 20;
    options.rescan_after = std::chrono::milliseconds(0);
    return options;
  }

  TemporaryDirectory root_;
  const std::string cache_ = root_ / "cache";
};

TEST_P(DirectoryTierTest, WhatWasPutIsReadAtOnceAndAfterSealingAndByALaterProcess) {
  const auto chunks = make_chunks(50, 10'000);
  {
    DirectoryTier tier(options());
    EXPECT_EQ(count_hits(tier, chunks), 0u);
    EXPECT_EQ(count_stored(tier, chunks), 50u);
    EXPECT_EQ(count_hits(tier, chunks), 50u);
    tier.flush();
    EXPECT_EQ(count_hits(tier, chunks), 50u);
    EXPECT_EQ(count_stored(tier, chunks), 0u);  // present
    EXPECT_EQ(tier.usage().chunks, 50u);
  }
  DirectoryTier tier(options());
  EXPECT_EQ(count_hits(tier, chunks), 50u);
  EXPECT_EQ(tier.usage().chunks, 50u);
}

TEST_P(DirectoryTierTest, LaterProcessesAdoptTheLimitOfTheFirst) {
  if (!GetParam()) GTEST_SKIP() << "limits are recorded in what is shared";
  DirectoryOptions other = options();
  other.limit_bytes = 1u << 20;
  {
    DirectoryTier first(options()), second(other);
    EXPECT_EQ(second.usage().limit_bytes, 64u << 20);
  }
  EXPECT_EQ(DirectoryTier(other).usage().limit_bytes, 1u << 20);  // nobody was left
}

TEST_P(DirectoryTierTest, ChunksOfAnySizeComeBackWhole) {
  std::vector<PutRequest> chunks;
  for (const std::uint64_t size : {0, 1, 15, 16, 17, 4095, 4096, 110'000, (4 << 20) - (4 << 10), 8 << 20}) {
    chunks.push_back(make_chunk(size, size));
  }
  DirectoryTier tier(options());
  EXPECT_EQ(count_stored(tier, chunks), chunks.size());
  EXPECT_EQ(count_hits(tier, chunks), chunks.size());
  tier.flush();
  EXPECT_EQ(count_hits(tier, chunks), chunks.size());
}

TEST_P(DirectoryTierTest, AnOpenTierSeesWhatAnotherOneSeals) {
  DirectoryTier reader(options()), writer(options());
  const auto chunks = make_chunks(10, 1000);
  EXPECT_EQ(count_hits(reader, chunks), 0u);
  count_stored(writer, chunks);
  EXPECT_EQ(count_hits(reader, chunks), 0u);
  writer.flush();
  if (!GetParam()) {  // then a miss starts a look, behind its back
    while (count_hits(reader, chunks) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(count_hits(reader, chunks), 10u);
  bool present[10];
  reader.contains(hashes_of(chunks), present);
  EXPECT_THAT(present, ::testing::Each(true));
}

TEST_P(DirectoryTierTest, ASegmentIsSealedOnceItIsOldEnough) {
  DirectoryOptions quick = options();
  quick.seal_after = std::chrono::milliseconds(0);
  DirectoryTier tier(quick);
  const auto chunks = make_chunks(3, 1000);
  count_stored(tier, std::span(chunks).first(2));
  EXPECT_TRUE(files_in(cache_, ".segment").empty());
  count_stored(tier, std::span(chunks).last(1));
  EXPECT_EQ(files_in(cache_, ".segment").size(), 1u);
}

TEST_P(DirectoryTierTest, SeveralThreadsPutAndGetAtOnce) {
  DirectoryOptions small = options();
  small.segment_bytes = 1u << 20;
  DirectoryTier tier(small);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&tier, t] {
      for (int round = 0; round < 10; ++round) {
        const auto chunks = make_chunks(20, 5000, 100 * t + round, t);
        EXPECT_EQ(count_stored(tier, chunks), 20u);
        EXPECT_EQ(count_hits(tier, chunks), 20u);
        if (round == 5) tier.flush();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(DirectoryTierTest, TransitChunksAreNotKept) {
  DirectoryTier tier(options());
  auto chunks = make_chunks(1, 1000);
  chunks[0].transit = true;
  EXPECT_EQ(count_stored(tier, chunks), 0u);
  EXPECT_TRUE(files_in(cache_).empty());
}

TEST_P(DirectoryTierTest, TheLimitHoldsAndTheLeastRecentlyUsedDatasetGoesFirst) {
  DirectoryOptions small = options();
  small.limit_bytes = 4u << 20;
  small.segment_bytes = 256u << 10;
  DirectoryTier tier(small);
  tier.hold_dataset(2);
  const auto old = make_chunks(20, 50'000, 1, 1), live = make_chunks(60, 50'000, 2, 2),
             more = make_chunks(60, 50'000, 3, 3);
  EXPECT_EQ(count_stored(tier, old), 20u);
  tier.flush();
  EXPECT_EQ(count_stored(tier, live), 60u);
  tier.flush();
  count_stored(tier, more);
  tier.flush();
  EXPECT_LE(bytes_in(cache_), 4u << 20);
  EXPECT_EQ(count_hits(tier, live), 60u);  // held
  EXPECT_EQ(count_hits(tier, old), 0u);
  EXPECT_LE(tier.usage().used_bytes, 4u << 20);
}

TEST_P(DirectoryTierTest, WithNothingThatMayGoAPutIsRefused) {
  DirectoryOptions small = options();
  small.limit_bytes = 1u << 20;
  DirectoryTier tier(small);
  tier.hold_dataset(1);
  const auto chunks = make_chunks(60, 50'000);
  const std::size_t stored = count_stored(tier, chunks);
  EXPECT_GT(stored, 5u);
  EXPECT_LT(stored, 21u);
  EXPECT_EQ(count_hits(tier, chunks), stored);
  const auto big = make_chunks(1, 2u << 20, 9);
  EXPECT_EQ(count_stored(tier, big), 0u);
}

TEST_P(DirectoryTierTest, LruKeepsWhatIsRead) {
  DirectoryOptions small = options();
  small.limit_bytes = 2u << 20;
  small.segment_bytes = 256u << 10;
  small.eviction = EvictionPolicy::kLru;
  DirectoryTier tier(small);
  const auto hot = make_chunks(4, 50'000, 1);
  count_stored(tier, hot);
  tier.flush();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(count_stored(tier, make_chunks(4, 50'000, 10 + i)), 4u);
    EXPECT_EQ(count_hits(tier, hot), 4u);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_LE(bytes_in(cache_), 2u << 20);
}

TEST_P(DirectoryTierTest, TheSmallSegmentsThatFlushesLeaveAreMerged) {
  std::vector<PutRequest> all;
  {
    DirectoryTier tier(options());
    for (int i = 0; i < 64; ++i) {
      const auto chunks = make_chunks(2, 3000, 50 + i);
      all.insert(all.end(), chunks.begin(), chunks.end());
      EXPECT_EQ(count_stored(tier, chunks), 2u);
      tier.flush();
      EXPECT_EQ(count_hits(tier, all), all.size());
    }
    tier.usage();  // behind the last merge
    EXPECT_EQ(count_hits(tier, all), all.size());
    EXPECT_EQ(tier.usage().chunks, all.size());
  }
  EXPECT_LT(files_in(cache_, ".segment").size(), 16u);
  std::filesystem::remove_all(root_ / "node");
  DirectoryTier tier(options());
  EXPECT_EQ(count_hits(tier, all), all.size());
}

TEST_P(DirectoryTierTest, ErasedChunksAreGone) {
  DirectoryTier tier(options());
  const auto chunks = make_chunks(2, 1000);
  count_stored(tier, chunks);
  tier.flush();
  tier.erase(chunks[0].hash);
  EXPECT_EQ(count_hits(tier, chunks), 1u);
}

TEST_P(DirectoryTierTest, TheDirectoryIsMadeForItsOwnerAlone) {
  DirectoryOptions deep = options();
  deep.directory = root_ / "a/b/c";
  DirectoryTier tier(deep);
  count_stored(tier, make_chunks(1, 1000));
  struct stat info;
  ASSERT_EQ(stat(deep.directory.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  for (const auto& file : files_in(deep.directory)) {
    ASSERT_EQ(stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u);
  }
}

TEST_P(DirectoryTierTest, ASymbolicLinkAFileOrAnotherUsersDirectoryIsRefusedByName) {
  const auto message = [&] {
    try {
      DirectoryTier tier(options());
    } catch (const CacheError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  fs::create_directory(root_ / "elsewhere");
  fs::create_symlink(root_ / "elsewhere", cache_);
  EXPECT_THAT(message(),
              ::testing::AllOf(::testing::HasSubstr(cache_), ::testing::HasSubstr("symbolic link")));
  fs::remove(cache_);
  std::ofstream(cache_) << "a file";
  EXPECT_THAT(message(), ::testing::HasSubstr(cache_));
  fs::remove(cache_);
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a directory of another user's";
  fs::create_directory(cache_);
  ASSERT_EQ(chown(cache_.c_str(), 12345, 12345), 0);
  EXPECT_THAT(message(), ::testing::AllOf(::testing::HasSubstr(cache_), ::testing::HasSubstr("12345"),
                                          ::testing::HasSubstr(std::to_string(geteuid()))));
}

TEST_P(DirectoryTierTest, ADirectoryDeletedUnderUsIsMadeAgain) {
  DirectoryTier tier(options());
  const auto before = make_chunks(5, 1000, 1), after = make_chunks(5, 1000, 2);
  count_stored(tier, before);
  tier.flush();
  fs::remove_all(cache_);
  count_hits(tier, before);  // hits while a descriptor is open, or misses: right in either case
  count_stored(tier, after);
  tier.flush();
  EXPECT_EQ(count_stored(tier, make_chunks(1, 1000, 3)), 1u);
  EXPECT_EQ(count_hits(tier, after), 5u);
}

INSTANTIATE_TEST_SUITE_P(Sharing, DirectoryTierTest, ::testing::Bool(),
                         [](const auto& which) { return which.param ? "SharedIndex" : "PrivateIndex"; });

}  // namespace
}  // namespace alnair
