#include "dataset/hash_table.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::TemporaryDirectory;

const std::string kSource = "s3://bucket";
const std::string kVersion(64, 'a');

ContentHash hash_of(std::uint64_t number) { return content_hash(std::as_bytes(std::span(&number, 1))); }

class SharedHashesTest : public ::testing::Test {
 protected:
  SharedHashes open(std::uint64_t chunks = 100, std::uint64_t chunk_size = 4096) const {
    return {directory_.path(), kSource, kVersion, chunk_size, chunks};
  }
  std::string path() const {
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      if (entry.path().filename().string().starts_with("hashes-")) return entry.path();
    return "no file of hashes";
  }

  TemporaryDirectory directory_{"/dev/shm"};
};

TEST_F(SharedHashesTest, WhatOneSetsAllOthersSee) {
  SharedHashes first = open();
  SharedHashes second = open();
  EXPECT_TRUE(first.shared() && second.shared());
  EXPECT_EQ(second.get(7), std::nullopt);
  first.set(7, hash_of(7));
  EXPECT_EQ(second.get(7), hash_of(7));
  EXPECT_EQ(second.get(6), std::nullopt);
  EXPECT_EQ(second.get(8), std::nullopt);
  second.set(7, hash_of(8));
  EXPECT_EQ(first.get(7), hash_of(8));
  EXPECT_EQ(open().get(7), hash_of(8));
}

TEST_F(SharedHashesTest, OrdinalsBeyondTheEndAreUnknown) {
  SharedHashes hashes = open(3);
  hashes.set(3, hash_of(1));
  hashes.set(~std::uint64_t{0}, hash_of(1));
  EXPECT_EQ(hashes.get(3), std::nullopt);
  EXPECT_EQ(hashes.get(~std::uint64_t{0}), std::nullopt);
  EXPECT_EQ(open(0, 5).get(0), std::nullopt);
}

TEST_F(SharedHashesTest, OtherSourcesChunkSizesAndVersionsAreOtherTables) {
  SharedHashes hashes = open();
  hashes.set(0, hash_of(1));
  EXPECT_EQ(open(100, 8192).get(0), std::nullopt);
  EXPECT_EQ(SharedHashes(directory_.path(), kSource, std::string(64, 'b'), 4096, 100).get(0), std::nullopt);
  EXPECT_EQ(SharedHashes(directory_.path(), "s3://other", kVersion, 4096, 100).get(0), std::nullopt);
}

TEST_F(SharedHashesTest, WithoutADirectoryTheTableIsPrivate) {
  for (const std::string& directory : {std::string(), directory_ / "missing"}) {
    SharedHashes hashes(directory, kSource, kVersion, 4096, 10);
    EXPECT_FALSE(hashes.shared());
    hashes.set(9, hash_of(9));
    EXPECT_EQ(hashes.get(9), hash_of(9));
    EXPECT_EQ(SharedHashes(directory, kSource, kVersion, 4096, 10).get(9), std::nullopt);
  }
}

TEST_F(SharedHashesTest, ATableTooLargeForTheDirectoryIsPrivateOrEmpty) {
  SharedHashes hashes(directory_.path(), kSource, kVersion, 4096, std::uint64_t{1} << 39);
  EXPECT_FALSE(hashes.shared());
  hashes.set(5, hash_of(5));  // remembered where the machine promises so much memory, and harmless where not
  const auto known = hashes.get(5);
  EXPECT_TRUE(!known || *known == hash_of(5));
}

TEST_F(SharedHashesTest, ADamagedEntryIsUnknownAndCanBeSetAgain) {
  {
    SharedHashes hashes = open();
    for (std::uint64_t i = 0; i < 100; ++i) hashes.set(i, hash_of(i));
  }
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(64 + static_cast<long>(random() % 4000));
    file.put(static_cast<char>(random()));
  }
  SharedHashes hashes = open();
  int unknown = 0;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto hash = hashes.get(i);
    if (!hash)
      ++unknown;
    else
      EXPECT_EQ(*hash, hash_of(i));
    hashes.set(i, hash_of(i));
    EXPECT_EQ(hashes.get(i), hash_of(i));
  }
  EXPECT_GT(unknown, 10);
}

TEST_F(SharedHashesTest, AnEntryMovedElsewhereIsUnknown) {
  { open().set(3, hash_of(3)); }
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    std::array<char, 40> entry;
    file.seekg(64 + 3 * 40);
    file.read(entry.data(), entry.size());
    file.seekp(64 + 4 * 40);
    file.write(entry.data(), entry.size());
  }
  EXPECT_EQ(open().get(3), hash_of(3));
  EXPECT_EQ(open().get(4), std::nullopt);
}

TEST_F(SharedHashesTest, ADamagedHeaderOrSizeMeansANewTable) {
  for (const std::uint64_t size : {10u, 63u, 64u, 1000u, 5000u}) {
    { open().set(3, hash_of(3)); }
    std::filesystem::resize_file(path(), size);
    SharedHashes hashes = open();
    EXPECT_TRUE(hashes.shared());
    EXPECT_EQ(hashes.get(3), std::nullopt);
  }
  for (int offset = 0; offset < 64; ++offset) {
    { open().set(3, hash_of(3)); }
    {
      std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(offset);
      const int byte = file.get();
      file.seekp(offset);
      file.put(static_cast<char>(byte ^ 1));
    }
    EXPECT_EQ(open().get(3), std::nullopt) << offset;
  }
}

TEST_F(SharedHashesTest, ConcurrentWritersAndReadersNeverSeeAMixture) {
  SharedHashes hashes = open(2);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 2; ++writer)
    threads.emplace_back([&, writer] {
      for (std::uint64_t i = 0; !stop; ++i) hashes.set(i % 2, hash_of(static_cast<std::uint64_t>(writer)));
    });
  std::uint64_t known = 0;
  for (int i = 0; i < 200'000 || known == 0; ++i)
    if (const auto hash = hashes.get(static_cast<std::uint64_t>(i % 2))) {
      ++known;
      ASSERT_TRUE(*hash == hash_of(0) || *hash == hash_of(1));
    }
  stop = true;
  for (auto& thread : threads) thread.join();
}

TEST_F(SharedHashesTest, KilledWritersLeaveNoWrongHash) {
  std::mt19937_64 random(12);
  for (int round = 0; round < 50; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      SharedHashes hashes = open(64);
      for (std::uint64_t i = 0;; ++i) hashes.set(i % 64, hash_of(i % 64 + 1000 * (i / 64 % 2)));
    }
    usleep(random() % 3000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    SharedHashes hashes = open(64);
    EXPECT_TRUE(hashes.shared());
    for (std::uint64_t i = 0; i < 64; ++i)
      if (const auto hash = hashes.get(i)) {
        EXPECT_TRUE(*hash == hash_of(i) || *hash == hash_of(i + 1000));
      }
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_.path())) ++files;
    EXPECT_EQ(files, 1u);
  }
}

}  // namespace
}  // namespace alnair
