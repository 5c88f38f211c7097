#include "cache/shared_index.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "support/temporary_directory.h"

namespace alnair {
namespace {

ContentHash hash_of(std::uint64_t number) { return content_hash(std::as_bytes(std::span(&number, 1))); }
Location place_of(std::uint64_t number) {
  return {static_cast<std::uint32_t>(number % 1000), static_cast<std::uint32_t>(1 + number % 4000000) * 16};
}
bool never_stale(std::uint32_t) { return false; }

class SharedIndexTest : public ::testing::Test {
 protected:
  SharedIndex open(std::uint64_t entries = 64, std::uint64_t max_bytes = 64 << 20) {
    return {directory_ / "index", entries, max_bytes, locks_, lock_offset(LockPurpose::kIndexGrowth)};
  }
  static bool finds(const SharedIndex& index, std::uint64_t number) {
    return index.find(hash_of(number), [&](Location place) { return place == place_of(number); });
  }
  testing::TemporaryDirectory directory_{"/dev/shm"};
  LockFile& locks_ = LockFile::open(directory_ / "locks");
};

TEST_F(SharedIndexTest, FindsWhatWasInsertedAndGrowsByDoubling) {
  SharedIndex index = open();
  for (std::uint64_t i = 0; i < 20000; ++i) ASSERT_TRUE(index.insert(hash_of(i), place_of(i), never_stale));
  for (std::uint64_t i = 0; i < 20000; ++i) ASSERT_TRUE(finds(index, i)) << i;
  EXPECT_FALSE(finds(index, 20000));
  EXPECT_LE(index.bytes(), 20000u * 27);
  EXPECT_GT(index.tables(), 5);
}

TEST_F(SharedIndexTest, AnotherInstanceSeesTheSameEntriesAndTheTablesAddedLater) {
  SharedIndex first = open(), second = open();
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(first.insert(hash_of(i), place_of(i), never_stale));
  for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_TRUE(finds(second, i));
  EXPECT_EQ(first.tables(), second.tables());
}

TEST_F(SharedIndexTest, ErasesAndMarksExactlyThatEntry) {
  SharedIndex index = open();
  ASSERT_TRUE(index.insert(hash_of(1), place_of(1), never_stale));
  ASSERT_TRUE(index.insert(hash_of(1), place_of(2), never_stale));
  EXPECT_FALSE(index.is_marked(hash_of(1), place_of(1)));
  EXPECT_TRUE(index.mark(hash_of(1), place_of(1)));
  EXPECT_FALSE(index.mark(hash_of(1), place_of(1)));
  EXPECT_FALSE(index.mark(hash_of(1), place_of(3)));
  EXPECT_TRUE(index.is_marked(hash_of(1), place_of(1)));
  EXPECT_FALSE(index.is_marked(hash_of(1), place_of(2)));
  index.erase(hash_of(1), place_of(1));
  EXPECT_FALSE(finds(index, 1));
  EXPECT_TRUE(index.find(hash_of(1), [](Location place) { return place == place_of(2); }));
}

TEST_F(SharedIndexTest, TakesTheWordsOfStaleEntriesInsteadOfGrowing) {
  SharedIndex index = open(64, 0);
  std::uint64_t inserted = 0;
  while (index.insert(hash_of(inserted), {5, 16}, never_stale)) ++inserted;
  EXPECT_GE(inserted, 48u);  // of 64
  EXPECT_FALSE(index.insert(hash_of(9999), place_of(9999), never_stale));
  EXPECT_TRUE(
      index.insert(hash_of(9999), place_of(9999), [](std::uint32_t segment) { return segment == 5; }));
  EXPECT_TRUE(finds(index, 9999));
  EXPECT_EQ(index.tables(), 1);
}

TEST_F(SharedIndexTest, DamagedTablesAreReplaced) {
  {
    SharedIndex index = open();
    for (std::uint64_t i = 0; i < 500; ++i) ASSERT_TRUE(index.insert(hash_of(i), place_of(i), never_stale));
    ASSERT_GE(index.tables(), 3);
  }
  ASSERT_EQ(truncate((directory_ / "index-0").c_str(), 100), 0);
  std::ofstream(directory_ / "index-1") << std::string(64 + 128 * 8, 'x');
  SharedIndex index = open();
  for (std::uint64_t i = 0; i < 500; ++i) ASSERT_TRUE(index.insert(hash_of(i), place_of(i), never_stale));
  for (std::uint64_t i = 0; i < 500; ++i) EXPECT_TRUE(finds(index, i));
}

TEST_F(SharedIndexTest, ThreadsInsertAndFindAtOnce) {
  SharedIndex index = open();
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = t * 2000; i < (t + 1) * 2000; ++i) {
        ASSERT_TRUE(index.insert(hash_of(i), place_of(i), never_stale));
        ASSERT_TRUE(finds(index, i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint64_t i = 0; i < 8000; ++i) EXPECT_TRUE(finds(index, i));
}

TEST_F(SharedIndexTest, AProcessKilledWhileItGrowsTheIndexLeavesASoundOne) {
  std::uint64_t next = 0;
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      SharedIndex index = open(8);
      for (std::uint64_t i = next;; ++i) index.insert(hash_of(i), place_of(i), never_stale);
    }
    usleep(static_cast<useconds_t>(500 + rand() % 4000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    SharedIndex index = open(8);
    next += 100000;
    for (std::uint64_t i = next; i < next + 50; ++i) {
      ASSERT_TRUE(index.insert(hash_of(i), place_of(i), never_stale));
      ASSERT_TRUE(finds(index, i));
    }
  }
}

}  // namespace
}  // namespace alnair
