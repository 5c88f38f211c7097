// The directories that all nodes share: placement, modes, namespaces, two hosts at once, and wrong bytes.
#include "cache/directory/spill_tier.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "alnair/core/error.h"
#include "cache/tier_contract.h"
#include "core/log.h"
#include "directory_support.h"
#include "hooked_file_system.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using testing::disk::bytes_in;
using testing::disk::count_hits;
using testing::disk::count_stored;
using testing::disk::files_in;
using testing::disk::hashes_of;
using testing::disk::make_chunks;

template <int kDirectories>
struct SpillContract {
  static std::string base() { return std::filesystem::temp_directory_path(); }
  static constexpr std::uint64_t kLimit = 16 << 20;
  static constexpr bool kHoldsDatasets = true;
  static std::shared_ptr<Tier> open(const std::string& directory, std::uint64_t limit) {
    SpillOptions options;
    for (int i = 0; i < kDirectories; ++i) options.directories.push_back(directory + "/spill" + std::to_string(i));
    options.node_directory = directory + "/node";
    options.limit_bytes = limit / kDirectories;
    return open_spill(options);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Spill, TierContract, SpillContract<1>);
INSTANTIATE_TYPED_TEST_SUITE_P(SpillOverFour, TierContract, SpillContract<4>);

class SpillTest : public ::testing::Test {
 protected:
  // As host number `host` sees it: what processes of a node share is the host's own.
  SpillOptions host(int host, std::vector<std::string> directories = {"nfs"}) const {
    SpillOptions options;
    for (const auto& directory : directories) options.directories.push_back(root_ / directory);
    options.node_directory = root_ / ("node" + std::to_string(host));
    options.limit_bytes = 64u << 20;
    options.rescan_after = 0ms;
    return options;
  }

  // Reads until all are found, as readers that come again and again would.
  static bool finds_all(Tier& tier, const std::vector<PutRequest>& chunks) {
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    while (count_hits(tier, chunks) < chunks.size()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(2ms);
    }
    return true;
  }

  template <typename Error>
  static std::string message_of(const SpillOptions& options) {
    try {
      open_spill(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryDirectory root_;
};

TEST_F(SpillTest, HostsThatWriteAtOnceFindEachOthersChunks) {
  const auto one = open_spill(host(1)), two = open_spill(host(2));
  const auto first = make_chunks(50, 10'000, 1), second = make_chunks(50, 10'000, 2);
  std::thread writer([&] {
    EXPECT_EQ(count_stored(*one, first), 50u);
    one->flush();
  });
  EXPECT_EQ(count_stored(*two, second), 50u);
  two->flush();
  writer.join();
  EXPECT_TRUE(finds_all(*one, second));
  EXPECT_TRUE(finds_all(*two, first));
}

TEST_F(SpillTest, AHostFindsWhatAnotherWroteThoughTheDirectorysTimeOfChangeIsMisleading) {
  SpillOptions options = host(1);
  options.relist_after = 20ms;
  const auto one = open_spill(options), two = open_spill(host(2));
  const auto chunks = make_chunks(5, 1000, 1);
  EXPECT_EQ(count_hits(*one, chunks), 0u);
  const std::string folder = root_ / "nfs/alnair/default/v1";
  // An old time, which a scan believes to be settled...
  const timespec old[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, folder.c_str(), old, 0), 0);
  EXPECT_EQ(count_hits(*one, chunks), 0u);
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(count_hits(*one, chunks), 0u);
  // ... and which it still has after the change.
  EXPECT_EQ(count_stored(*two, chunks), 5u);
  two->flush();
  ASSERT_EQ(utimensat(AT_FDCWD, folder.c_str(), old, 0), 0);
  EXPECT_TRUE(finds_all(*one, chunks));
}

TEST_F(SpillTest, ChunksSpreadOverTheDirectoriesInWhateverOrderTheyAreNamed) {
  const auto chunks = make_chunks(200, 2000, 1);
  {
    const auto tier = open_spill(host(1, {"a", "b", "c"}));
    EXPECT_EQ(count_stored(*tier, chunks), 200u);
  }
  for (const char* directory : {"a", "b", "c"}) {
    EXPECT_GT(bytes_in(root_ / directory), 200u * 2000 / 6) << directory;
    EXPECT_LT(bytes_in(root_ / directory), 200u * 2000 / 2 + 20'000) << directory;
  }
  EXPECT_EQ(count_hits(*open_spill(host(2, {"c", "a", "b"})), chunks), 200u);
  // One directory fewer: what lay in the others is still found where it was.
  EXPECT_GT(count_hits(*open_spill(host(3, {"c", "a"})), chunks), 100u);
}

TEST_F(SpillTest, NamespacesAndDomainsSeeNothingOfEachOther) {
  const auto chunks = make_chunks(5, 2000, 1);
  {
    const auto tier = open_spill(host(1));
    EXPECT_EQ(count_stored(*tier, chunks), 5u);
  }
  SpillOptions other = host(1);
  other.domain = "others";
  EXPECT_EQ(count_hits(*open_spill(other), chunks), 0u);
  other = host(1);
  other.key_namespace = "test";
  EXPECT_EQ(count_hits(*open_spill(other), chunks), 0u);
  EXPECT_TRUE(std::filesystem::is_directory(root_ / "nfs/test/default/v1"));
  EXPECT_EQ(count_hits(*open_spill(host(2)), chunks), 5u);
}

TEST_F(SpillTest, ModesAreAsAskedWhateverTheUmask) {
  const mode_t before = umask(077);
  SpillOptions options = host(1);
  options.mode = 02770;
  count_stored(*open_spill(options), make_chunks(5, 2000, 1));
  umask(before);
  const auto mode_of = [](const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  };
  for (const char* folder : {"nfs", "nfs/alnair", "nfs/alnair/default", "nfs/alnair/default/v1"})
    EXPECT_EQ(mode_of(root_ / folder), 02770u) << folder;
  for (const auto& file : files_in(root_ / "nfs")) EXPECT_EQ(mode_of(file), 0660u);
  count_stored(*open_spill(host(1, {"private"})), make_chunks(5, 2000, 1));
  EXPECT_EQ(mode_of(root_ / "private/alnair"), 0700u);
  for (const auto& file : files_in(root_ / "private")) EXPECT_EQ(mode_of(file), 0600u);
}

TEST_F(SpillTest, AnothersDirectoryWillDo) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  std::filesystem::create_directory(root_ / "nfs");
  ASSERT_EQ(chown((root_ / "nfs").c_str(), 12345, 12345), 0);
  EXPECT_EQ(count_stored(*open_spill(host(1)), make_chunks(5, 2000, 1)), 5u);
  struct stat info {};
  ASSERT_EQ(stat((root_ / "nfs").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 12345u);
}

TEST_F(SpillTest, PlantedBytesAreAMissThatIsCounted) {
  const auto chunks = make_chunks(20, 5000, 1);
  count_stored(*open_spill(host(1)), chunks);
  for (const auto& file : files_in(root_ / "nfs", ".segment")) {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(16 + 2500);  // in the first record, behind the head
    bytes.put('X').put('Y').put('Z');
  }
  const auto corrupt = metrics().value(TierId::kSpill, TierCounter::kCorrupt);
  const auto tier = open_spill(host(2));
  EXPECT_EQ(count_hits(*tier, chunks), 19u);  // aborts if it hands out wrong bytes
  EXPECT_EQ(metrics().value(TierId::kSpill, TierCounter::kCorrupt), corrupt + 1);
  EXPECT_EQ(count_stored(*tier, chunks), 1u) << "the damaged one is written again";
  EXPECT_EQ(count_hits(*tier, chunks), 20u);
}

TEST_F(SpillTest, ADamagedRecordIsFoundByOneHostAndNoOther) {
  std::vector<ContentHash> told;
  SpillOptions options = host(1);
  options.before_drop = [&](std::span<const ContentHash> hashes) {
    told.insert(told.end(), hashes.begin(), hashes.end());
    return true;
  };
  const auto chunks = make_chunks(20, 5000, 1);
  const auto one = open_spill(options), two = open_spill(host(2));
  ASSERT_FALSE(one->identity().empty());
  count_stored(*one, chunks);
  one->flush();
  EXPECT_TRUE(finds_all(*two, chunks));
  const auto damaged = files_in(root_ / "nfs", ".segment");
  ASSERT_EQ(damaged.size(), 1u);
  {
    std::fstream bytes(damaged[0], std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(16 + 2500);
    bytes.put('X').put('Y').put('Z');
  }
  const auto corrupt = metrics().value(TierId::kSpill, TierCounter::kCorrupt);
  EXPECT_EQ(count_hits(*one, chunks), 19u);
  // Its other records are in a new segment, and whoever relied on the damaged one knows.
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  while (std::filesystem::exists(damaged[0]) && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(5ms);
  EXPECT_FALSE(std::filesystem::exists(damaged[0]));
  one->flush();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0], chunks[0].hash);
  EXPECT_EQ(count_hits(*one, chunks), 19u);
  int in_a_row = 0;  // it has the damaged file open, then misses until it looks at the directory again, which it does in moderation
  for (; in_a_row < 4 && std::chrono::steady_clock::now() < deadline; std::this_thread::sleep_for(5ms))
    in_a_row = count_hits(*two, chunks) == 19 ? in_a_row + 1 : 0;
  EXPECT_EQ(in_a_row, 4);
  EXPECT_EQ(count_hits(*open_spill(host(3)), chunks), 19u);
  EXPECT_EQ(metrics().value(TierId::kSpill, TierCounter::kCorrupt), corrupt + 1);
}

TEST_F(SpillTest, WhatIsDurableIsFoundOutWithoutListingTheDirectoryForEachBatch) {
  const auto lists = std::make_shared<std::atomic<int>>(0);
  SpillOptions options = host(1);
  options.limit_bytes = 1ull << 40;
  options.rescan_after = 1h;
  options.files = std::make_shared<HookedFileSystem>([lists](std::string_view call, const std::string&) {
    *lists += call == "list";
    return 0;
  });
  const auto one = open_spill(options), two = open_spill(host(2));
  const auto all_durable = [&](const std::vector<PutRequest>& chunks) {
    const auto hashes = hashes_of(chunks);
    const std::unique_ptr<bool[]> durable(new bool[hashes.size()]);
    one->durable(hashes, {durable.get(), hashes.size()});
    return std::all_of(durable.get(), durable.get() + hashes.size(), [](bool each) { return each; });
  };
  const auto begin = std::chrono::steady_clock::now();
  const int before = *lists;
  for (std::uint64_t batch = 0; batch < 40; ++batch) {
    const auto chunks = make_chunks(5, 1000, batch);
    count_stored(*one, chunks);
    one->flush();
    EXPECT_TRUE(all_durable(chunks));
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_LE(*lists - before, 5 + 3 * seconds) << "some for merges, one a second to know what room there is";
  // What others wrote is looked for, and what is gone is noticed.
  const auto theirs = make_chunks(5, 1000, 100);
  EXPECT_FALSE(all_durable(theirs));
  count_stored(*two, theirs);
  two->flush();
  EXPECT_TRUE(all_durable(theirs));
  for (const auto& file : files_in(root_ / "nfs", ".segment")) std::filesystem::rename(file, file.string() + ".gone");
  EXPECT_FALSE(all_durable(theirs));
  EXPECT_FALSE(all_durable(make_chunks(5, 1000, 1)));
}

TEST_F(SpillTest, ADirectoryThatDisappearsIsNotMadeAgainBelowSomethingElse) {
  const auto tier = open_spill(host(1));
  EXPECT_EQ(count_stored(*tier, make_chunks(5, 2000, 1)), 5u);
  tier->flush();
  std::filesystem::rename(root_ / "nfs", root_ / "elsewhere");  // as if it were unmounted
  std::filesystem::create_directory(root_ / "nfs");
  EXPECT_EQ(count_stored(*tier, make_chunks(5, 2000, 2)), 0u);
  tier->flush();
  EXPECT_TRUE(std::filesystem::is_empty(root_ / "nfs"));
  std::filesystem::remove(root_ / "nfs");
  std::filesystem::rename(root_ / "elsewhere", root_ / "nfs");
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  std::uint64_t seed = 3;
  while (count_stored(*tier, make_chunks(1, 2000, seed++)) == 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(10ms);
  EXPECT_LT(std::chrono::steady_clock::now(), deadline);
  EXPECT_TRUE(finds_all(*tier, make_chunks(5, 2000, 1)));
}

TEST_F(SpillTest, AFullDirectoryRefusesAndStillServes) {
  SpillOptions options = host(1);
  options.limit_bytes = 2u << 20;
  const auto tier = open_spill(options);
  tier->hold_dataset(1);
  const auto chunks = make_chunks(100, 50'000, 1);
  std::vector<std::string> said;
  set_log_sink([&](LogLevel, std::string_view message) { said.emplace_back(message); });
  const std::size_t stored = count_stored(*tier, chunks);
  count_stored(*tier, chunks);
  set_log_sink({});
  ASSERT_THAT(said, ::testing::SizeIs(1));
  EXPECT_THAT(said[0], ::testing::StartsWith("spill tier: " + root_ / "nfs" + " is full: "));
  EXPECT_THAT(said[0], ::testing::HasSubstr(" MiB of at most 2.0 are in use"));
  EXPECT_GT(stored, 10u);
  EXPECT_LT(stored, 45u);
  EXPECT_EQ(count_hits(*tier, chunks), stored);
  EXPECT_LE(bytes_in(root_ / "nfs"), 2u << 20);
}

TEST_F(SpillTest, WhatCannotBeMeantIsAnErrorThatNamesIt) {
  EXPECT_EQ(message_of<ConfigError>(host(1, {"not/there"})),
            "spill: there is no directory " + root_ / "not/there" + ", nor one to make it in; is its file system mounted?");
  std::ofstream(root_ / "file") << "x";
  EXPECT_EQ(message_of<ConfigError>(host(1, {"file"})), "spill: " + root_ / "file" + " is not a directory");
  EXPECT_EQ(message_of<ConfigError>(host(1, {"file/nfs"})),
            "spill: there is no directory " + root_ / "file/nfs" + ", nor one to make it in; is its file system mounted?");
  EXPECT_EQ(message_of<ConfigError>(host(1, {"a", "b", "a/"})), "spill: " + root_ / "a" + " is named twice");
  SpillOptions relative = host(1);
  relative.directories = {"nfs"};
  EXPECT_EQ(message_of<ConfigError>(relative), "spill: expected absolute directories, not \"nfs\"");
  SpillOptions decimal = host(1);
  decimal.mode = 2770;  // meant: 02770
  EXPECT_EQ(message_of<ConfigError>(decimal),
            "spill_mode: expected an octal mode that gives the owner all (0700, 2770), not 5322");
}

TEST_F(SpillTest, AReadOnlyDirectoryServesAndRefuses) {
  const auto chunks = make_chunks(5, 2000, 1);
  count_stored(*open_spill(host(1)), chunks);
  DirectoryOptions options;
  options.root = root_ / "nfs";
  options.directory = root_ / "nfs/alnair/default";
  options.id = TierId::kSpill;
  options.name = "spill";
  struct ReadOnly : FileSystem {
    int open(const std::string& path, int flags) override {
      return (flags & O_CREAT) != 0 ? -EROFS : FileSystem::open(path, flags);
    }
    int make_directory(const std::string& path) override {
      return std::filesystem::exists(path) ? 0 : -EROFS;
    }
    int remove(const std::string&) override { return -EROFS; }
  };
  options.files = std::make_shared<ReadOnly>();
  DirectoryTier tier(options);
  EXPECT_EQ(count_hits(tier, chunks), 5u);
  EXPECT_EQ(count_stored(tier, make_chunks(5, 2000, 2)), 0u);
}

}  // namespace
}  // namespace alnair
