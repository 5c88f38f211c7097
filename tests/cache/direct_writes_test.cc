#include "cache/directory/direct_writes.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "cache/directory/directory_tier.h"
#include "directory_support.h"
#include "hooked_file_system.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace testing::disk;

constexpr std::uint32_t kTmpfs = 0x01021994;  // its files are the page cache

class DirectWritesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    struct statfs status {};
    ASSERT_EQ(statfs(root_.path().c_str(), &status), 0);
    if (static_cast<std::uint32_t>(status.f_type) == kTmpfs) GTEST_SKIP() << root_.path() << " is on no disk";
    std::ofstream{path_};
    writes_ = DirectWrites::open(files_, path_);
    if (writes_ == nullptr) GTEST_SKIP() << "the file system of " << root_.path() << " takes no direct writes";
  }

  int append(const std::vector<std::string>& texts) {
    std::vector<iovec> pieces;
    for (const std::string& text : texts) pieces.push_back({const_cast<char*>(text.data()), text.size()});
    return writes_->append(pieces);
  }
  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TemporaryDirectory root_;
  const std::string path_ = root_ / "file";
  const std::shared_ptr<FileSystem> files_ = std::make_shared<FileSystem>();
  std::unique_ptr<DirectWrites> writes_;
};

std::string random_text(std::mt19937_64& random, std::size_t size) {
  std::string text(size, 0);
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

TEST_F(DirectWritesTest, TheFileHasWhatWasAppendedAndZerosToTheEndOfTheBlock) {
  std::mt19937_64 random(7);
  std::string expected;
  for (const std::size_t size : {1, 4095, 4096, 4097, 16, 0, 8192, 1 << 20, (1 << 20) - 1, 3'000'000, 5}) {
    const std::string a = random_text(random, size), b = random_text(random, size / 3);
    ASSERT_EQ(append({a, b}), 0);
    expected += a + b;
    const std::string found = content();
    ASSERT_EQ(found.size(), (expected.size() + 4095) / 4096 * 4096);
    ASSERT_TRUE(found.starts_with(expected));
    ASSERT_EQ(found.find_first_not_of('\0', expected.size()), std::string::npos);
  }
}

TEST_F(DirectWritesTest, WhatFailedIsNotAppendedAndWhatFollowsTakesItsPlace) {
  std::mt19937_64 random(8);
  const std::string first = random_text(random, 5000), lost = random_text(random, 2'500'000), second = random_text(random, 7000);
  for (const int good : {0, 1, 2}) {  // writes of a MiB before the one that fails
    int writes = 0;
    auto failing = std::make_shared<HookedFileSystem>([&](std::string_view call, const std::string&) {
      return call == "write" && writes++ == good + 1 ? -ENOSPC : 0;  // the first is that of `first`
    });
    std::ofstream(path_, std::ios::trunc).close();
    writes_ = DirectWrites::open(failing, path_);
    ASSERT_EQ(append({first}), 0);
    EXPECT_EQ(append({lost}), -ENOSPC);
    EXPECT_TRUE(content().starts_with(first));
    ASSERT_EQ(append({second}), 0);
    EXPECT_TRUE(content().starts_with(first + second));
  }
}

std::size_t cached_pages(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const std::size_t size = std::filesystem::file_size(path), pages = (size + 4095) / 4096;
  void* const mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  std::vector<unsigned char> cached(pages);
  EXPECT_EQ(mincore(mapped, size, cached.data()), 0);
  munmap(mapped, size);
  ::close(fd);
  return static_cast<std::size_t>(std::count_if(cached.begin(), cached.end(), [](unsigned char page) { return (page & 1) != 0; }));
}

TEST_F(DirectWritesTest, ADirectoryLeavesThePageCacheAlone) {
  DirectoryOptions options;
  options.directory = root_ / "cache";
  options.limit_bytes = 64u << 20;
  const auto chunks = make_chunks(50, 100'000);
  DirectoryTier tier(options);
  ASSERT_EQ(count_stored(tier, chunks), 50u);
  tier.flush();
  std::size_t segments = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root_ / "cache")) {
    if (entry.path().extension() != ".segment") continue;
    ++segments;
    EXPECT_LE(cached_pages(entry.path()), 8u);  // of hundreds: the footer, and what was read ahead of it
  }
  EXPECT_GE(segments, 1u);
  EXPECT_EQ(count_hits(tier, chunks), 50u);
}

TEST_F(DirectWritesTest, WhereTheDiskRefusesThemThePageCacheTakesThem) {
  DirectoryOptions options;
  options.directory = root_ / "cache";
  options.limit_bytes = 64u << 20;
  int writes = 0;
  options.files = std::make_shared<HookedFileSystem>(
      [&](std::string_view call, const std::string&) { return call == "write" && writes++ == 0 ? -EINVAL : 0; });
  const auto chunks = make_chunks(20, 10'000);
  DirectoryTier tier(options);
  EXPECT_EQ(count_stored(tier, chunks), 20u);
  EXPECT_EQ(count_hits(tier, chunks), 20u);
  tier.flush();
  EXPECT_EQ(count_hits(tier, chunks), 20u);
  EXPECT_GT(writes, 1);
}

}  // namespace
}  // namespace alnair
