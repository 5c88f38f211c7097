// What goes wrong around a directory tier is a miss or a refused put, never wrong bytes, an exception or a
// hang.
#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <thread>

#include "core/log.h"
#include "core/metrics.h"
#include "directory_support.h"
#include "hooked_file_system.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace testing::disk;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::uint64_t count_of(TierCounter counter) { return metrics().value(TierId::kDisk, counter); }

class DirectoryFaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel, std::string_view message) {
      std::lock_guard lock(mutex_);
      messages_.emplace_back(message);
    });
  }
  void TearDown() override { set_log_sink({}); }

  DirectoryOptions options() const {
    DirectoryOptions options;
    options.directory = cache_;
    options.node_directory = root_ / "node";
    options.limit_bytes = 64u << 20;
    return options;
  }
  std::vector<PutRequest> filled(std::size_t count = 20, std::uint64_t size = 20'000) {
    const auto chunks = make_chunks(count, size);
    DirectoryTier tier(options());
    EXPECT_EQ(count_stored(tier, chunks), count);
    return chunks;
  }
  std::size_t messages() {
    std::lock_guard lock(mutex_);
    return messages_.size();
  }

  std::mutex mutex_;
  std::vector<std::string> messages_;
  TemporaryDirectory root_;
  const std::string cache_ = root_ / "cache";
};

TEST_F(DirectoryFaultsTest, AWrongByteAnywhereInASegmentIsDetected) {
  const auto chunks = filled();
  const auto segment = files_in(cache_, ".segment").at(0);
  std::string whole;
  {
    std::ifstream in(segment, std::ios::binary);
    whole.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::mt19937_64 random(7);
  for (int round = 0; round < 60; ++round) {
    // Half of the rounds aim at the footer, which is small.
    const std::uint64_t footer = 20 * 40 + 64;
    const std::uint64_t at = round % 2 == 0 ? random() % whole.size() : whole.size() - 1 - random() % footer;
    std::string damaged = whole;
    damaged[at] ^= static_cast<char>(1 + random() % 255);
    fs::remove_all(cache_);
    fs::remove_all(root_ / "node");
    fs::create_directories(cache_ + "/v1");
    std::ofstream(segment, std::ios::binary) << damaged;
    const std::uint64_t corrupt = count_of(TierCounter::kCorrupt);
    DirectoryTier tier(options());
    const std::size_t hits = count_hits(tier, chunks);  // aborts on wrong bytes
    if (at < whole.size() - footer) {
      // One record, or the head, or padding between records, which carry nothing.
      EXPECT_GE(hits, 19u);
      EXPECT_EQ(count_of(TierCounter::kCorrupt) - corrupt, 20 - hits);
    } else {
      EXPECT_EQ(hits, 0u) << at;
      EXPECT_EQ(count_of(TierCounter::kCorrupt) - corrupt, 1u);
      EXPECT_TRUE(files_in(cache_).empty());  // useless, and gone
    }
    // What was lost is stored again, and found.
    EXPECT_EQ(count_stored(tier, chunks), 20 - hits);
    tier.flush();
    EXPECT_EQ(count_hits(tier, chunks), 20u);
  }
}

TEST_F(DirectoryFaultsTest, ASegmentCutAnywhereIsDetected) {
  const auto chunks = filled();
  const auto segment = files_in(cache_, ".segment").at(0);
  const std::uint64_t size = fs::file_size(segment);
  fs::copy(segment, root_ / "copy");
  std::mt19937_64 random(8);
  for (int round = 0; round < 30; ++round) {
    fs::remove_all(root_ / "node");
    fs::copy_file(root_ / "copy", segment, fs::copy_options::overwrite_existing);
    const bool after_opening = round % 2 == 0;
    if (!after_opening) fs::resize_file(segment, random() % size);
    DirectoryTier tier(options());
    if (!after_opening) {
      EXPECT_EQ(count_hits(tier, chunks), 0u);
      continue;
    }
    EXPECT_EQ(count_hits(tier, chunks), 20u);
    fs::resize_file(segment, random() % size);
    EXPECT_LT(count_hits(tier, chunks), 20u);
    EXPECT_GT(count_stored(tier, chunks), 0u);
    EXPECT_EQ(count_hits(tier, chunks), 20u);
    tier.flush();
    for (const auto& file : files_in(cache_)) fs::remove(file);
  }
}

TEST_F(DirectoryFaultsTest, GarbageInTheDirectoryIsHarmless) {
  const auto chunks = filled();
  const std::string folder = cache_ + "/v1/";
  std::ofstream(folder + "README") << "not ours";
  std::ofstream(folder + std::string(32, 'a') + ".segment") << "too short";
  std::ofstream(folder + std::string(32, 'b') + ".segment") << std::string(100'000, 'x');
  std::ofstream(folder + std::string(32, 'z') + ".segment") << "no nonce";
  std::ofstream(folder + ".segment");
  fs::create_directory(folder + std::string(32, 'c') + ".segment");
  fs::create_symlink("/etc/passwd", folder + std::string(32, 'd') + ".segment");
  // A whole segment under another's name is no segment either.
  fs::copy(files_in(cache_, ".segment").at(0), folder + std::string(32, 'e') + ".segment");
  fs::remove_all(root_ / "node");
  DirectoryTier tier(options());
  EXPECT_EQ(count_hits(tier, chunks), 20u);
  EXPECT_TRUE(fs::exists(folder + "README"));
  EXPECT_FALSE(fs::exists(folder + std::string(32, 'b') + ".segment"));
}

TEST_F(DirectoryFaultsTest, AFullDiskRefusesAndKeepsWhatItHas) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount";
  fs::create_directory(cache_);
  if (mount("tmpfs", cache_.c_str(), "tmpfs", 0, "size=2m,mode=700") != 0)
    GTEST_SKIP() << "cannot mount here";
  DirectoryOptions roomy = options();
  roomy.segment_bytes = 1u << 20;
  const auto chunks = make_chunks(100, 50'000);
  {
    DirectoryTier tier(roomy);
    tier.hold_dataset(1);
    const std::uint64_t faults = count_of(TierCounter::kFaults);
    const std::size_t stored = count_stored(tier, chunks);
    EXPECT_GT(stored, 15u);
    EXPECT_LT(stored, 42u);
    EXPECT_GT(count_of(TierCounter::kFaults), faults);
    for (int i = 0; i < 50; ++i) count_stored(tier, chunks);
    tier.flush();
    EXPECT_GT(count_hits(tier, chunks), 15u);
    EXPECT_LE(messages(), 2u);  // once for each kind, not each time
  }
  {
    DirectoryTier tier(roomy);
    EXPECT_GT(count_hits(tier, chunks), 15u);
  }
  // The default limit leaves a tenth free.
  for (const auto& file : files_in(cache_)) fs::remove(file);
  DirectoryOptions by_default = roomy;
  by_default.limit_bytes = 0;
  by_default.segment_bytes = 128u << 10;
  {
    DirectoryTier tier(by_default);
    tier.hold_dataset(1);
    count_stored(tier, chunks);
    tier.flush();
    EXPECT_LE(bytes_in(cache_), (2u << 20) * 9 / 10);
    EXPECT_GT(bytes_in(cache_), (2u << 20) * 7 / 10);
  }
  umount2(cache_.c_str(), MNT_DETACH);
}

TEST_F(DirectoryFaultsTest, AReadOnlyFileSystemStillServesReads) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount";
  fs::create_directory(cache_);
  if (mount("tmpfs", cache_.c_str(), "tmpfs", 0, "size=8m,mode=700") != 0)
    GTEST_SKIP() << "cannot mount here";
  const auto chunks = filled();
  ASSERT_EQ(mount("tmpfs", cache_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, ""), 0);
  for (const bool shared : {true, false}) {
    DirectoryOptions some = options();
    if (!shared) some.node_directory.clear();
    DirectoryTier tier(some);
    EXPECT_EQ(count_hits(tier, chunks), 20u);
    EXPECT_EQ(count_stored(tier, make_chunks(5, 1000, 9)), 0u);
    tier.flush();
  }
  umount2(cache_.c_str(), MNT_DETACH);
}

TEST_F(DirectoryFaultsTest, WithoutNodeMemoryAProcessKeepsAnIndexOfItsOwn) {
  DirectoryOptions lonely = options();
  lonely.node_directory = "/proc/nothing-can-be-made-here";
  const auto chunks = make_chunks(5, 1000);
  {
    DirectoryTier tier(lonely);
    EXPECT_EQ(count_stored(tier, chunks), 5u);
  }
  DirectoryTier tier(lonely);
  EXPECT_EQ(count_hits(tier, chunks), 5u);
}

TEST_F(DirectoryFaultsTest, ADirectoryThatCannotBeMadeMissesAndRefuses) {
  DirectoryOptions impossible = options();
  impossible.directory = "/proc/nothing-can-be-made-here/cache";
  DirectoryTier tier(impossible);
  const auto chunks = make_chunks(5, 1000);
  EXPECT_EQ(count_stored(tier, chunks), 0u);
  EXPECT_EQ(count_hits(tier, chunks), 0u);
  tier.flush();
  EXPECT_EQ(tier.usage().chunks, 0u);
  EXPECT_GE(messages(), 1u);
}

TEST_F(DirectoryFaultsTest, EachFailingCallIsAMissOrARefusalAndLoggedOnce) {
  const auto chunks = filled();
  for (const std::string failing :
       {"open", "read", "write", "truncate", "sync", "rename", "remove", "list", "modified"}) {
    fs::remove_all(root_ / "node");
    auto broken = std::make_shared<std::atomic<bool>>(true);
    DirectoryOptions faulty = options();
    faulty.durable = true;
    faulty.files = std::make_shared<HookedFileSystem>(
        [=](std::string_view call, const std::string&) { return *broken && call == failing ? -EIO : 0; });
    {
      std::lock_guard lock(mutex_);
      messages_.clear();
    }
    DirectoryTier tier(faulty);
    const auto more = make_chunks(5, 1000, 100 + std::hash<std::string>()(failing) % 1000);
    for (int i = 0; i < 5; ++i) {
      count_hits(tier, chunks);
      count_stored(tier, more);
      tier.flush();
    }
    EXPECT_LE(messages(), 2u) << failing;
    *broken = false;
    while (count_hits(tier, more) < 5) {  // after a refusal, room is not looked for at once
      count_stored(tier, more);
      tier.flush();
      std::this_thread::sleep_for(10ms);
    }
  }
}

// Lets calls hang until it is opened.
class Gate {
 public:
  int wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !closed_; });
    --waiting_;
    return 0;
  }
  void set(bool closed) {
    std::lock_guard lock(mutex_);
    closed_ = closed;
    changed_.notify_all();
  }
  bool closed() {
    std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  int waiting_ = 0;
};

TEST_F(DirectoryFaultsTest, AHungFileSystemCostsOneWaitAndComesBackByItself) {
  const auto chunks = filled();
  auto gate = std::make_shared<Gate>();
  DirectoryOptions hanging = options();
  hanging.stall_limit = 100ms;
  hanging.files = std::make_shared<HookedFileSystem>(
      [gate](std::string_view, const std::string&) { return gate->closed() ? gate->wait() : 0; });
  DirectoryTier tier(hanging);
  EXPECT_EQ(count_hits(tier, chunks), 20u);
  gate->set(true);
  const std::uint64_t faults = count_of(TierCounter::kFaults);
  EXPECT_EQ(count_hits(tier, chunks), 0u);                     // the wait
  EXPECT_EQ(count_stored(tier, make_chunks(5, 1000, 9)), 0u);  // and one for the writing thread
  EXPECT_EQ(count_of(TierCounter::kFaults) - faults, 2u);
  for (int i = 0; i < 1000; ++i) {  // at once from here on: with a wait each, the test's time would be up
    EXPECT_EQ(count_hits(tier, chunks), 0u);
    EXPECT_EQ(count_stored(tier, make_chunks(1, 10, 10)), 0u);
    bool present[20];
    tier.contains(hashes_of(chunks), present);
    EXPECT_FALSE(present[0]);
    tier.flush();
    tier.usage();
  }
  EXPECT_LE(messages(), 1u);
  gate->set(false);
  while (count_hits(tier, chunks) < 20) std::this_thread::sleep_for(1ms);
  const auto more = make_chunks(5, 1000, 9);  // some may be there: a put that hung goes on
  while (count_hits(tier, more) < 5) {
    count_stored(tier, more);
    std::this_thread::sleep_for(1ms);
  }
}

TEST_F(DirectoryFaultsTest, ATierCanBeLeftWhileItsFileSystemHangs) {
  const auto chunks = filled();
  auto gate = std::make_shared<Gate>();
  gate->set(true);
  DirectoryOptions hanging = options();
  hanging.stall_limit = 50ms;
  hanging.files = std::make_shared<HookedFileSystem>(
      [gate](std::string_view, const std::string&) { return gate->closed() ? gate->wait() : 0; });
  {
    DirectoryTier tier(hanging);
    EXPECT_EQ(count_hits(tier, chunks), 0u);
    EXPECT_EQ(count_stored(tier, make_chunks(5, 1000, 9)), 0u);
  }
  gate->set(false);
  std::this_thread::sleep_for(50ms);  // lets the abandoned threads end before the directory is removed
}

}  // namespace
}  // namespace alnair
