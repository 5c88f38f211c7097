// Datasets end to end, over a source in memory and real tiers, in one process and in several.
#include "alnair/dataset/dataset.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>
#include <random>
#include <thread>

#include "alnair/core/error.h"
#include "core/metrics.h"
#include "support/map_source.h"
#include "support/nfs_like.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() {
    for (int i = 0; i < 50; ++i) source_->put("train/" + std::to_string(100 + i), content(i));
    source_->put("val/1", "one");
  }

  static std::string content(int i) { return "object " + std::to_string(i) + std::string(1000, static_cast<char>('a' + i % 26)); }

  DatasetOptions options() {
    DatasetOptions result;
    result.object_source = source_;
    result.cache.cache_dir = disk_ / "cache";
    result.cache.memory_dir = memory_ / "memory";
    result.cache.memory_limit = 64 << 20;
    result.cache.disk_limit = 256 << 20;
    return result;
  }

  static std::vector<std::uint64_t> all_of(const Dataset& dataset) {
    std::vector<std::uint64_t> indices(dataset.manifest().size());
    std::iota(indices.begin(), indices.end(), 0);
    return indices;
  }

  // Reads everything; "" or the first difference from the source.
  static std::string check(Dataset& dataset) {
    const auto indices = all_of(dataset);
    const auto samples = dataset.read_batch(indices);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (samples[i].error) return "an error at " + std::to_string(i);
      if (samples[i].bytes.text() != content(static_cast<int>(i))) return "other bytes at " + std::to_string(i);
    }
    return "";
  }

  // Runs `body` in a forked child: whether it returned "".
  template <typename Body>
  static bool in_child(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
      std::string result = "an exception";
      try {
        result = body();
      } catch (const std::exception& error) {
        result = error.what();
      }
      if (!result.empty()) fprintf(stderr, "child: %s\n", result.c_str());
      _exit(result.empty() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::shared_ptr<testing::MapSource> source_ = std::make_shared<testing::MapSource>();
  testing::TemporaryDirectory disk_;
  testing::TemporaryDirectory memory_{"/dev/shm"};
};

TEST_F(DatasetTest, SamplesAreInKeyOrderAndEqualTheSource) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(dataset->manifest().size(), 50U);
  EXPECT_EQ(dataset->manifest().key(3), "train/103");
  EXPECT_EQ(check(*dataset), "");
  EXPECT_EQ(dataset->read(7).text(), content(7));
}

TEST_F(DatasetTest, SourcesThatListTheSameDoNotShareWhatIsKnownOfTheirBytes) {
  // A copy of a bucket on a server that sends no ETags: equal keys, sizes and times, so an equal manifest.
  const auto ours = std::make_shared<testing::MapSource>("map://ours");
  const auto theirs = std::make_shared<testing::MapSource>("map://theirs");
  ours->put("a", "ours", "");
  theirs->put("a", "them", "");
  const auto open = [this](const std::shared_ptr<testing::MapSource>& source) {
    auto chosen = options();
    chosen.object_source = source;
    return Dataset::open(chosen);
  };
  for (int round = 0; round < 2; ++round) {  // the second time from the tiers
    const auto first = open(ours), second = open(theirs);
    EXPECT_EQ(first->version(), second->version());
    EXPECT_EQ(first->read(0).text(), "ours");
    EXPECT_EQ(second->read(0).text(), "them");
  }
  EXPECT_EQ(ours->reads() + theirs->reads(), 2);
}

TEST_F(DatasetTest, WhatAnotherDatasetHasJustReadIsKnown) {
  const auto everything = Dataset::open(options());
  everything->read_batch(all_of(*everything));
  auto narrowed = options();
  narrowed.keys = {"train"};
  EXPECT_EQ(check(*Dataset::open(narrowed)), "");
  EXPECT_EQ(source_->reads(), 51);
}

TEST_F(DatasetTest, ASecondEpochReadsNothingFromTheSource) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(check(*dataset), "");
  EXPECT_EQ(source_->reads(), 50);
  EXPECT_EQ(check(*dataset), "");
  EXPECT_EQ(source_->reads(), 50);
}

TEST_F(DatasetTest, ASecondRunReadsNothingFromTheSourceEvenWithoutNodeMemory) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  {
    const auto dataset = Dataset::open(narrowed);
    EXPECT_EQ(check(*dataset), "");
    dataset->flush();
  }
  EXPECT_EQ(check(*Dataset::open(narrowed)), "");
  EXPECT_EQ(source_->reads(), 50);
  narrowed.cache.memory_dir = memory_ / "after-a-reboot";
  EXPECT_EQ(check(*Dataset::open(narrowed)), "");
  EXPECT_EQ(source_->reads(), 50) << "the directory tier has them, the catalog knows their hashes";
}

TEST_F(DatasetTest, AForkedChildReadsWithItsOwnHandles) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(check(*dataset), "");
  const int before = source_->reads();
  EXPECT_TRUE(in_child([&] { return source_->reads() == before ? check(*dataset) : "reads"; }));
  EXPECT_TRUE(in_child([&] {
    return in_child([&] { return check(*dataset); }) ? check(*dataset) : "the grandchild failed";
  }));
  EXPECT_EQ(check(*dataset), "");
}

TEST_F(DatasetTest, ForkedChildrenShareOneFetchAChunk) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  const std::uint64_t before = metrics().value(TierId::kSource, TierCounter::kHits);
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(check(*dataset).empty() ? 0 : 1);
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(metrics().value(TierId::kSource, TierCounter::kHits) - before, 50U);
}

TEST_F(DatasetTest, LargeObjectsAreCutIntoChunksAndReadInParts) {
  std::string large(3'000'000, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 2654435761u >> 13);
  source_->put("large", large);
  auto narrowed = options();
  narrowed.keys = {"large"};
  narrowed.cache.chunk_size = 1 << 20;
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(dataset->read(0, 1'500'000, 100).text(), large.substr(1'500'000, 100));
  EXPECT_EQ(source_->bytes_read(), 1u << 20) << "one chunk";
  EXPECT_EQ(dataset->read(0, 1'000'000, 200'000).text(), large.substr(1'000'000, 200'000));
  EXPECT_EQ(source_->bytes_read(), 2u << 20);
  EXPECT_EQ(dataset->read(0).text(), large);
  EXPECT_EQ(dataset->read(0).text(), large);
  EXPECT_EQ(source_->bytes_read(), large.size());
  EXPECT_EQ(dataset->read(0, large.size() - 1, 100).text(), large.substr(large.size() - 1));
  EXPECT_TRUE(dataset->read(0, large.size() + 1, 100).empty());
}

TEST_F(DatasetTest, EmptyObjectsAreSamplesAndFolderMarkersAreNot) {
  source_->put("odd/", "");
  source_->put("odd/empty", "");
  source_->put("odd/full", "full");
  auto narrowed = options();
  narrowed.keys = {"odd"};
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(dataset->manifest().size(), 2U);
  EXPECT_TRUE(dataset->read(0).empty());
  EXPECT_EQ(dataset->read(1).text(), "full");
}

TEST_F(DatasetTest, AnIndexOutOfRangeSaysWhatThereIs) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  try {
    dataset->read(50);
    FAIL() << "no error";
  } catch (const std::out_of_range& error) {
    EXPECT_STREQ(error.what(), "object 50 of a dataset that has 50 (indices start at 0)");
  }
}

TEST_F(DatasetTest, OnlyModifiedObjectsAreFetchedAgain) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  std::string first_version;
  {
    const auto dataset = Dataset::open(narrowed);
    first_version = dataset->version();
    EXPECT_EQ(check(*dataset), "");
  }
  source_->put("train/100", "new bytes");
  source_->put("train/999", "one more");
  const auto dataset = Dataset::open(narrowed);
  EXPECT_NE(dataset->version(), first_version);
  const int before = source_->reads();
  EXPECT_EQ(dataset->read(0).text(), "new bytes");
  EXPECT_EQ(dataset->read(50).text(), "one more");
  EXPECT_EQ(dataset->read(1).text(), content(1));
  EXPECT_EQ(source_->reads(), before + 2);
}

TEST_F(DatasetTest, AnObjectOverwrittenAfterRegistrationIsServedFromTheCacheElseAnError) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(dataset->read(0).text(), content(0));
  source_->put("train/100", "new bytes");
  source_->put("train/101", "new bytes");
  EXPECT_EQ(dataset->read(0).text(), content(0));
  EXPECT_THROW(dataset->read(1), ChangedError);
  const std::vector<std::uint64_t> indices = {1, 2};
  const auto samples = dataset->read_batch(indices);
  EXPECT_TRUE(samples[0].error);
  EXPECT_EQ(samples[1].bytes.text(), content(2)) << "one bad object does not spoil the batch";
}

TEST_F(DatasetTest, AKnownVersionOpensWithoutListing) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const std::string version = Dataset::open(narrowed)->version();
  const int lists = source_->lists();
  narrowed.version = version;
  EXPECT_EQ(check(*Dataset::open(narrowed)), "");
  narrowed.version.clear();
  narrowed.refresh = false;
  EXPECT_EQ(Dataset::open(narrowed)->version(), version);
  EXPECT_EQ(source_->lists(), lists);
  narrowed.version = std::string(64, '0');
  EXPECT_THROW(Dataset::open(narrowed), NotFoundError);
}

TEST_F(DatasetTest, PrefetchedObjectsAreReadFromMemory) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  dataset->prefetch(all_of(*dataset));
  EXPECT_EQ(check(*dataset), "");
  EXPECT_EQ(source_->reads(), 50) << "reads join what the prefetcher has in flight";
}

TEST_F(DatasetTest, WithoutCachingEachEpochFetchesEachObjectOnce) {
  auto uncached = options();
  uncached.keys = {"train"};
  uncached.cache.use_cache = false;
  const auto dataset = Dataset::open(uncached);
  for (int epoch = 1; epoch <= 2; ++epoch) {
    dataset->prefetch(all_of(*dataset));
    EXPECT_EQ(check(*dataset), "");
  }
  EXPECT_LE(source_->reads(), 100);
  EXPECT_FALSE(std::filesystem::exists(options().cache.cache_dir + "/chunks"));
}

// Node memory keeps a quarter of it, and lends transit's room while it can; the directory tier has room for all.
TEST_F(DatasetTest, WhatTheDirectoryTierHasRoomForIsFetchedOnce) {
  constexpr int kObjects = 300;
  for (int i = 0; i < kObjects; ++i) source_->put("large/" + std::to_string(i), std::to_string(i) + std::string(100'000, 'x'));
  for (const auto policy : {EvictionPolicy::kNone, EvictionPolicy::kLru}) {
    auto chosen = options();
    chosen.keys = {"large"};
    chosen.cache.cache_dir += std::to_string(static_cast<int>(policy));
    chosen.cache.memory_dir += std::to_string(static_cast<int>(policy));
    chosen.cache.memory_limit = 8 << 20;
    chosen.cache.eviction = policy;
    const int before = source_->reads();
    const auto dataset = Dataset::open(chosen);
    auto order = all_of(*dataset);
    std::mt19937 random(1);
    for (int epoch = 1; epoch <= 3; ++epoch) {
      std::ranges::shuffle(order, random);
      dataset->prefetch(order);
      for (std::size_t i = 0; i < order.size(); i += 20) {
        for (const Sample& sample : dataset->read_batch(std::span(order).subspan(i, 20))) ASSERT_EQ(sample.error, nullptr);
        dataset->prefetch_advance(i + 20);
      }
      EXPECT_EQ(source_->reads() - before, kObjects) << "after epoch " << epoch;
    }
  }
}

TEST_F(DatasetTest, WhatFindsNoRoomInNodeMemoryIsNotFetchedTwice) {
  constexpr int kObjects = 200;
  for (int i = 0; i < kObjects; ++i) source_->put("large/" + std::to_string(i), std::string(100'000, 'x') + std::to_string(i));
  auto uncached = options();
  uncached.keys = {"large"};
  uncached.cache.use_cache = false;
  uncached.cache.memory_limit = 8 << 20;
  const auto dataset = Dataset::open(uncached);
  const auto order = all_of(*dataset);
  dataset->prefetch(order);
  std::vector<Sample> held;  // keeps what passes through from being freed
  for (const std::uint64_t index : order) {
    held.push_back(std::move(dataset->read_batch({&index, 1})[0]));
    dataset->prefetch_advance(held.size());
  }
  EXPECT_EQ(source_->reads(), kObjects);
}

TEST_F(DatasetTest, AReadThatWaitsCanBeInterrupted) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  source_->hold();
  struct Stop {};
  EXPECT_THROW(dataset->read(0, 0, Dataset::kToEnd, [] { throw Stop(); }), Stop);
  source_->release();
  EXPECT_EQ(dataset->read(0).text(), content(0));
}

TEST_F(DatasetTest, TheCacheDirectoryMayVanishMidRun) {
  auto narrowed = options();
  narrowed.keys = {"train"};
  const auto dataset = Dataset::open(narrowed);
  EXPECT_EQ(check(*dataset), "");
  for (const auto& directory : {narrowed.cache.cache_dir, narrowed.cache.memory_dir}) {
    std::error_code error;  // the filler may be writing there
    do std::filesystem::remove_all(directory, error);
    while (error);
  }
  EXPECT_EQ(check(*dataset), "");
  dataset->flush();
  EXPECT_EQ(check(*dataset), "");
}

TEST_F(DatasetTest, AMalformedChunkSizeSaysWhatIsExpected) {
  auto malformed = options();
  malformed.cache.chunk_size = 1;
  try {
    Dataset::open(malformed);
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("chunk_size is 1 bytes; expected 4096"));
  }
}

TEST_F(DatasetTest, AHomeDirectoryThatHangsLaterStopsNoEpoch) {
  const auto home = testing::NfsLike::mount(disk_ / "home", disk_ / "server");
  if (home == nullptr) GTEST_SKIP() << "no FUSE here";
  auto here = options();
  here.cache.cache_dir = disk_ / "home/alnair";
  here.keys = {"train"};
  const auto dataset = Dataset::open(here);
  EXPECT_EQ(check(*dataset), "");
  home->command("hang");
  EXPECT_EQ(check(*dataset), "");
}

}  // namespace
}  // namespace alnair
