
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "cache/memory/node_memory.h"
#include "cache/tier_contract.h"
#include "core/file.h"
#include "core/metrics.h"
#include "core/sole_opener.h"

namespace alnair {
namespace {

namespace fs = std::filesystem;
using testing::Chunk;
using testing::make_chunk;
using testing::put_one;
using testing::same_bytes;

constexpr std::uint64_t kMiB = 1 << 20;

std::uint64_t counter(TierCounter which) { return metrics().value(TierId::kMemory, which); }

class NodeMemoryTest : public ::testing::Test {
 protected:
  std::shared_ptr<NodeMemory> open(EvictionPolicy policy = EvictionPolicy::kNone,
                                   std::uint64_t limit = 16 * kMiB, SegmentAllocator::Clock clock = nullptr) {
    NodeMemoryOptions options;
    options.directory = directory_ / "memory";
    options.limit = limit;
    options.policy = policy;
    options.clock = clock;
    return NodeMemory::open(options);
  }
  // Runs `body` in a forked child; true if it returned true.
  static bool in_child(const std::function<bool()>& body) {
    const pid_t child = fork();
    if (child == 0) _exit(body() ? 0 : 1);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  std::vector<std::string> files(const std::string& prefix) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_ / "memory/v1"))
      if (entry.path().filename().string().starts_with(prefix)) names.push_back(entry.path());
    return names;
  }
  testing::TemporaryDirectory directory_{"/dev/shm"};
};

TEST_F(NodeMemoryTest, RefusesDirectoriesOfOthersAndSymbolicLinks) {
  ASSERT_EQ(mkdir((directory_ / "real").c_str(), 0700), 0);
  ASSERT_EQ(symlink("real", (directory_ / "memory").c_str()), 0);
  EXPECT_THROW(open(), CacheError);
  ASSERT_EQ(unlink((directory_ / "memory").c_str()), 0);
  ASSERT_EQ(mkdir((directory_ / "memory").c_str(), 0700), 0);
  if (chown((directory_ / "memory").c_str(), 4242, 4242) != 0) GTEST_SKIP() << "needs root";
  try {
    open();
    FAIL();
  } catch (const CacheError& error) {
    const std::string message = error.what();
    for (const std::string& part :
         {directory_ / "memory", std::string("user 4242"), fmt::format("user {}", geteuid())})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST_F(NodeMemoryTest, LaterProcessesAdoptTheLimitsOfTheFirst) {
  const auto first = open(EvictionPolicy::kLru, 16 * kMiB);
  const auto second = open(EvictionPolicy::kNone, 99 * kMiB);
  EXPECT_EQ(second->usage().limit_bytes, 16 * kMiB);
  EXPECT_EQ(second->limits().policy, EvictionPolicy::kLru);
  struct stat status {};
  ASSERT_EQ(stat((directory_ / "memory").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(NodeMemoryTest, NoneKeepsTheFirstChunksAndRefusesTheRestOfADatasetThatDoesNotFit) {
  const auto memory = open();
  memory->hold_dataset(1);
  std::vector<Chunk> stored;
  bool refused = false;
  for (std::uint64_t i = 0; i < 300; ++i) {
    const Chunk chunk = make_chunk(i, 100'000);
    const PutOutcome outcome = put_one(*memory, chunk, 1);
    if (outcome == PutOutcome::kStored) stored.push_back(chunk);
    refused |= outcome == PutOutcome::kRefused;
  }
  EXPECT_TRUE(refused);
  EXPECT_GT(stored.size(), 100u);
  for (const Chunk& chunk : stored) EXPECT_TRUE(same_bytes(memory->find(chunk.hash), chunk));
}

TEST_F(NodeMemoryTest, ADatasetIsHeldByOtherLiveProcessesToo) {
  const auto memory = open();
  const Chunk held = make_chunk(1, 1000);
  put_one(*memory, held, 7);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto own = open();
    own->hold_dataset(7);
    [[maybe_unused]] const auto written = write(ready[1], "x", 1);
    pause();
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  for (std::uint64_t i = 0; i < 400; ++i) put_one(*memory, make_chunk(i, 100'000), 100 + i / 20);
  EXPECT_TRUE(memory->find(held.hash));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (std::uint64_t i = 0; i < 400; ++i) put_one(*memory, make_chunk(i, 100'001), 200 + i / 20);
  EXPECT_FALSE(memory->find(held.hash));
  close(ready[0]);
  close(ready[1]);
}

std::uint64_t g_now = 1000;

TEST_F(NodeMemoryTest, LruDropsTheSegmentThatWasReadLongestAgo) {
  const auto memory = open(EvictionPolicy::kLru, 16 * kMiB, [] { return g_now; });
  const Chunk first = make_chunk(1, 1000);
  put_one(*memory, first);
  for (std::uint64_t i = 0; i < 600; ++i) {
    g_now += 100;
    put_one(*memory, make_chunk(i, 100'000));
    ASSERT_TRUE(same_bytes(memory->find(first.hash), first)) << i;
  }
  for (std::uint64_t i = 0; i < 300; ++i) {
    g_now += 100;
    put_one(*memory, make_chunk(i, 100'001));
  }
  EXPECT_FALSE(memory->find(first.hash));
}

TEST_F(NodeMemoryTest, S3FifoMovesChunksThatWereReadToTheMainSegments) {
  const auto memory = open(EvictionPolicy::kS3Fifo);
  const Chunk read_again = make_chunk(1, 1000), not_read = make_chunk(2, 1000);
  put_one(*memory, read_again);
  put_one(*memory, not_read);
  ASSERT_TRUE(memory->find(read_again.hash));
  for (std::uint64_t i = 0; i < 200; ++i) put_one(*memory, make_chunk(i, 100'000));
  EXPECT_TRUE(same_bytes(memory->find(read_again.hash), read_again));
  EXPECT_FALSE(memory->find(not_read.hash));
}

TEST_F(NodeMemoryTest, TheIndexGrowsWithinTheLimit) {
  const auto memory = open(EvictionPolicy::kLru, 2 * kMiB);
  std::size_t tables = 0;
  for (std::uint64_t i = 0; i < 30'000; ++i) {
    put_one(*memory, make_chunk(i, 20));
    if (files("index-").size() == tables && i % 100 != 0) continue;
    tables = files("index-").size();
    ASSERT_LE(memory->usage().used_bytes, 2 * kMiB) << "with " << tables << " tables";
  }
  EXPECT_GT(tables, 1U);
}

// Chunks that pass through node memory with 8 MiB for them, in segments of five chunks.
class TransitTest : public NodeMemoryTest {
 protected:
  static constexpr DatasetTag kAhead = 77;
  static constexpr std::uint64_t kTransit = 8 * kMiB;

  std::shared_ptr<NodeMemory> open_transit(SegmentAllocator::Clock clock = nullptr) {
    NodeMemoryOptions options;
    options.directory = directory_ / "memory";
    options.limit = 16 * kMiB;
    options.transit_limit = kTransit;
    options.segment_bytes = 2 * kMiB;
    options.clock = clock;
    return NodeMemory::open(options);
  }
  static Chunk chunk(std::uint64_t i) { return make_chunk(i, 100'000); }
  // Refused for a moment while this process's janitor, descheduled, still maps what was evicted.
  static void pass(NodeMemory& memory, std::uint64_t i, DatasetTag ahead) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (put_one(memory, chunk(i), ahead, true) == PutOutcome::kRefused && std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    ASSERT_LE(memory.usage().transit_bytes, kTransit);
  }
};

TEST_F(TransitTest, WhatIsToBeReadStaysAndWhatWasReadGoes) {
  const auto memory = open_transit();
  memory->hold_dataset(kAhead);
  const Chunk kept = make_chunk(1'000'000, 1000);
  put_one(*memory, kept, 1);
  std::uint64_t next = 0, read = 0;
  const auto bring = [&](std::uint64_t n) {
    for (; n > 0; --n) pass(*memory, next++, kAhead);
  };
  bring(20);  // a quarter of the room, ahead of a loop that goes on for ten times the room
  for (; next < 800; bring(1)) {
    for (std::uint64_t i = read; i < next; ++i) ASSERT_TRUE(memory->find(chunk(i).hash)) << i << " of " << next;
    const ContentHash hash = chunk(read++).hash;
    memory->consume({&hash, 1});
  }
  EXPECT_FALSE(memory->find(chunk(0).hash));
  EXPECT_TRUE(memory->find(kept.hash));
  memory->release_dataset(kAhead);
}

TEST_F(TransitTest, WhatFoundItsReaderGivesWayToWhatIsToBeRead) {
  const auto memory = open_transit();
  memory->hold_dataset(kAhead);
  for (std::uint64_t i = 0; i < 20; ++i) pass(*memory, i, kAhead);
  for (std::uint64_t i = 1000; i < 1400; ++i) pass(*memory, i, 0);
  EXPECT_TRUE(memory->find(chunk(1399).hash));
  for (std::uint64_t i = 20; i < 40; ++i) pass(*memory, i, kAhead);
  for (std::uint64_t i = 0; i < 40; ++i) EXPECT_TRUE(memory->find(chunk(i).hash)) << i;
  memory->release_dataset(kAhead);
}

TEST_F(TransitTest, WhereAllIsToBeReadTheRestIsRefusedUntilTheReaderIsGone) {
  const auto memory = open_transit();
  memory->hold_dataset(kAhead);
  std::uint64_t stored = 0;
  while (put_one(*memory, chunk(stored), kAhead, true) == PutOutcome::kStored) ++stored;
  EXPECT_GT(stored, 60u);
  for (std::uint64_t i = 0; i < stored; ++i) EXPECT_TRUE(memory->find(chunk(i).hash)) << i;
  memory->release_dataset(kAhead);
  for (std::uint64_t i = 1000; i < 1020; ++i) pass(*memory, i, kAhead + 1);
  EXPECT_FALSE(memory->find(chunk(0).hash));
}

TEST_F(TransitTest, WhatAKilledProcessWasToReadGoes) {
  const auto memory = open_transit();
  ASSERT_TRUE(in_child([this] {
    const auto own = open_transit();
    own->hold_dataset(kAhead);
    std::uint64_t stored = 0;
    while (put_one(*own, chunk(stored), kAhead, true) == PutOutcome::kStored) ++stored;
    return stored > 60;  // and ends without a word
  }));
  memory->hold_dataset(kAhead + 1);
  for (std::uint64_t i = 1000; i < 1020; ++i) pass(*memory, i, kAhead + 1);
  for (std::uint64_t i = 1000; i < 1020; ++i) EXPECT_TRUE(memory->find(chunk(i).hash)) << i;
  memory->release_dataset(kAhead + 1);
}

TEST_F(TransitTest, WhatNobodyHasReadForAMinuteGoesWhenOthersNeedItsRoom) {
  static std::atomic<std::uint64_t> now{1000};
  const auto memory = open_transit(+[] { return now.load(); });
  memory->hold_dataset(kAhead);
  memory->hold_dataset(kAhead + 1);
  std::uint64_t stored = 0;
  while (put_one(*memory, chunk(stored), kAhead, true) == PutOutcome::kStored) ++stored;
  now += 59'000;
  EXPECT_EQ(put_one(*memory, chunk(1000), kAhead + 1, true), PutOutcome::kRefused);
  now += 2'000;
  pass(*memory, 1000, kAhead + 1);
  EXPECT_TRUE(memory->find(chunk(1000).hash));
  memory->release_dataset(kAhead);
  memory->release_dataset(kAhead + 1);
}

TEST_F(TransitTest, WhatWasReadIsStoredAnewForAnotherReader) {
  const auto memory = open_transit();
  memory->hold_dataset(kAhead);
  const ContentHash hash = chunk(1).hash;
  EXPECT_EQ(put_one(*memory, chunk(1), kAhead, true), PutOutcome::kStored);
  EXPECT_EQ(put_one(*memory, chunk(1), kAhead, true), PutOutcome::kPresent);
  memory->consume({&hash, 1});
  EXPECT_EQ(put_one(*memory, chunk(1), kAhead, true), PutOutcome::kStored) << "the first may go at any moment";
  memory->consume({&hash, 1});
  EXPECT_EQ(put_one(*memory, chunk(1), kAhead, true), PutOutcome::kStored);
  memory->release_dataset(kAhead);
}

TEST_F(NodeMemoryTest, WhatFitsUsesTransitsRoomUntilTransitNeedsIt) {
  const auto memory = open();
  memory->hold_dataset(1);
  const auto kept = [&memory] {
    int count = 0;
    for (std::uint64_t i = 0; i < 140; ++i) count += memory->find(make_chunk(i, 100'000).hash) ? 1 : 0;
    return count;
  };
  // 14 of 16 MB.
  for (std::uint64_t i = 0; i < 140; ++i) ASSERT_EQ(put_one(*memory, make_chunk(i, 100'000), 1), PutOutcome::kStored) << i;
  EXPECT_EQ(kept(), 140);

  memory->hold_dataset(77);  // whose look-ahead brings 3 of the 4 MB that transit may have
  for (std::uint64_t i = 1000; i < 1030; ++i) {
    const Chunk chunk = make_chunk(i, 100'000);
    // Refused for a moment while this process's janitor, descheduled, still maps what was evicted.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (put_one(*memory, chunk, 77, true) == PutOutcome::kRefused && std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    ASSERT_TRUE(memory->find(chunk.hash)) << i;
    ASSERT_LE(memory->usage().used_bytes, 16 * kMiB);
  }
  EXPECT_LE(memory->usage().transit_bytes, 4 * kMiB);
  EXPECT_LT(kept(), 130);
  EXPECT_GT(kept(), 90);
  EXPECT_FALSE(memory->find(make_chunk(0, 100'000).hash)) << "the oldest go";
  EXPECT_EQ(put_one(*memory, make_chunk(2000, 1'000'000), 1), PutOutcome::kRefused) << "transit is in use";
  memory->release_dataset(77);
  memory->release_dataset(1);
}

TEST_F(TransitTest, AChunkConsumedTwiceCountsOnce) {
  const auto memory = open_transit();
  memory->hold_dataset(kAhead);
  for (std::uint64_t i = 0; i < 4; ++i) pass(*memory, i, kAhead);
  const ContentHash first = chunk(0).hash;
  for (int i = 0; i < 5; ++i) memory->consume({&first, 1});
  // Were the segment taken for used up, it would go.
  for (std::uint64_t i = 1000; i < 1200; ++i) pass(*memory, i, 0);
  EXPECT_TRUE(memory->find(chunk(3).hash));
  memory->release_dataset(kAhead);
}

TEST(SoleOpener, IsToldFromOneOfSeveral) {
  const testing::TemporaryDirectory directory{"/dev/shm"};
  const std::string path = directory / "file";
  const auto opened = [&](int flags) { return FileDescriptor(::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0600)); };
  const FileDescriptor file = opened(O_RDWR);
  if (!is_sole_opener(file.get())) GTEST_SKIP() << "this system has no leases";
  for (const int flags : {O_RDONLY, O_RDWR}) {
    const FileDescriptor another = opened(flags);
    EXPECT_FALSE(is_sole_opener(file.get())) << flags;
  }
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  void* const mapping = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, opened(O_RDONLY).get(), 0);  // of which the descriptor is closed
  ASSERT_NE(mapping, MAP_FAILED);
  EXPECT_FALSE(is_sole_opener(file.get()));
  munmap(mapping, 4096);
  EXPECT_TRUE(is_sole_opener(file.get()));
}

TEST_F(TransitTest, PagesOfWhatHasPassedAreUsedAgain) {
  const auto memory = open_transit();
  pass(*memory, 0, 0);
  const std::string first = files("segment-").at(0), link = directory_ / "link";
  fs::create_hard_link(first, link);  // so that no other file gets its inode
  const FileDescriptor fresh(::open((directory_ / "fresh").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!is_sole_opener(fresh.get())) GTEST_SKIP() << "this system has no leases";
  bool used_again = false;
  for (std::uint64_t i = 1; i < 400; ++i) {
    pass(*memory, i, 0);
    ASSERT_TRUE(same_bytes(memory->find(chunk(i).hash), chunk(i))) << i;
    for (const std::string& segment : files("segment-")) used_again |= segment != first && fs::equivalent(segment, link);
  }
  EXPECT_TRUE(used_again);
}

// It was forked with a view, and has not used node memory since: its mapping has no lock.
TEST_F(TransitTest, PagesThatAForkedChildMapsAreNotUsedAgain) {
  const auto memory = open_transit();
  pass(*memory, 0, 0);
  const std::string link = directory_ / "link";
  fs::create_hard_link(files("segment-").at(0), link);
  auto view = memory->find(chunk(0).hash);
  int to_child[2];
  ASSERT_EQ(pipe(to_child), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    _exit(read(to_child[0], &byte, 1) == 1 && same_bytes(view, chunk(0)) ? 0 : 1);
  }
  view.reset();
  for (std::uint64_t i = 1; i < 400; ++i) pass(*memory, i, 0);
  EXPECT_FALSE(memory->find(chunk(0).hash));
  EXPECT_EQ(fs::hard_link_count(link), 1u) << "it was evicted, and its file removed";
  ASSERT_EQ(write(to_child[1], "x", 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  for (const int fd : to_child) close(fd);
}

TEST_F(NodeMemoryTest, EvictedSegmentsCountUntilTheirViewsAreGone) {
  const auto memory = open(EvictionPolicy::kLru);
  const Chunk chunk = make_chunk(1, 100'000);
  put_one(*memory, chunk);
  auto view = memory->find(chunk.hash);
  ASSERT_TRUE(view);
  for (std::uint64_t i = 2; i < 400; ++i) put_one(*memory, make_chunk(i, 100'000));
  EXPECT_FALSE(memory->find(chunk.hash));
  EXPECT_EQ(files("dead-").size(), 1u);
  EXPECT_LE(memory->usage().used_bytes, 16 * kMiB);
  EXPECT_TRUE(same_bytes(view, chunk));
  view.reset();
  for (std::uint64_t i = 2; i < 60; ++i) put_one(*memory, make_chunk(i, 100'001));
  EXPECT_EQ(files("dead-").size(), 0u);
}

TEST_F(NodeMemoryTest, ASegmentThatAnotherProcessMapsIsRemovedOnceThatProcessIsGone) {
  const auto memory = open(EvictionPolicy::kLru);
  const Chunk chunk = make_chunk(1, 100'000);
  put_one(*memory, chunk);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto own = open();
    const auto view = own->find(chunk.hash);
    [[maybe_unused]] const auto written = write(ready[1], "x", 1);
    pause();
    _exit(view ? 0 : 1);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  for (std::uint64_t i = 2; i < 400; ++i) put_one(*memory, make_chunk(i, 100'000));
  EXPECT_EQ(files("dead-").size(), 1u);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  open();  // whoever comes next cleans up
  EXPECT_EQ(files("dead-").size(), 0u);
  close(ready[0]);
  close(ready[1]);
}

TEST_F(NodeMemoryTest, AForkedChildKeepsInheritedViewsAndLetsGoOfThemItself) {
  const auto memory = open(EvictionPolicy::kLru);
  const Chunk chunk = make_chunk(1, 100'000);
  put_one(*memory, chunk);
  auto view = memory->find(chunk.hash);
  int to_child[2], to_parent[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(to_parent), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto own = open();  // takes over the inherited mapping
    char byte = 'x';
    bool right = write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1;
    right &= same_bytes(view, chunk);  // evicted by the parent meanwhile
    view.reset();
    own->find(chunk.hash);  // an operation: unmaps
    right &= write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1;
    _exit(right ? 0 : 1);
  }
  char byte = 'x';
  ASSERT_EQ(read(to_parent[0], &byte, 1), 1);
  view.reset();
  for (std::uint64_t i = 2; i < 400; ++i) put_one(*memory, make_chunk(i, 100'000));
  EXPECT_EQ(files("dead-").size(), 1u) << "the child's view counts";
  ASSERT_EQ(write(to_child[1], &byte, 1), 1);
  ASSERT_EQ(read(to_parent[0], &byte, 1), 1);
  open();
  EXPECT_EQ(files("dead-").size(), 0u);
  ASSERT_EQ(write(to_child[1], &byte, 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  for (const int fd : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) close(fd);
}

TEST_F(NodeMemoryTest, AStrayWriteStaysInThisProcessAndIsReadAround) {
  const auto memory = open();
  const Chunk chunk = make_chunk(1, 5000);
  put_one(*memory, chunk);
  const auto view = memory->find(chunk.hash);
  ASSERT_TRUE(view);
  const_cast<std::byte*>(view->data())[100] ^= std::byte{1};
  EXPECT_TRUE(same_bytes(memory->find(chunk.hash), chunk));
  EXPECT_TRUE(in_child([&] { return same_bytes(open()->find(chunk.hash), chunk); }));
}

TEST_F(NodeMemoryTest, TellsHowManyChunksItHolds) {
  const auto memory = open();
  for (std::uint64_t i = 0; i < 10; ++i) put_one(*memory, make_chunk(i, 1000));
  EXPECT_EQ(memory->usage().chunks, 10u);
}

TEST_F(NodeMemoryTest, OnAFullFileSystemPutsAreRefusedAndReadsGoOn) {
  const std::string mount_point = directory_ / "small";
  ASSERT_EQ(mkdir(mount_point.c_str(), 0700), 0);
  if (mount("none", mount_point.c_str(), "tmpfs", 0, "size=4m") != 0) GTEST_SKIP() << "needs root";
  {
    NodeMemoryOptions options;
    options.directory = mount_point + "/memory";
    options.limit = 64 * kMiB;
    options.segment_bytes = 1 * kMiB;
    const auto memory = NodeMemory::open(options);
    std::vector<Chunk> stored;
    bool refused = false;
    const std::uint64_t faults = counter(TierCounter::kFaults);
    memory->hold_dataset(1);
    for (std::uint64_t i = 0; i < 100; ++i) {
      const Chunk chunk = make_chunk(i, 100'000);
      const PutOutcome outcome = put_one(*memory, chunk, 1);
      if (outcome == PutOutcome::kStored) stored.push_back(chunk);
      refused |= outcome == PutOutcome::kRefused;
    }
    EXPECT_TRUE(refused);
    EXPECT_GT(stored.size(), 20u);
    EXPECT_GT(counter(TierCounter::kFaults), faults);
    for (const Chunk& chunk : stored) EXPECT_TRUE(same_bytes(memory->find(chunk.hash), chunk));
    // Another dataset makes room when nobody holds this one.
    memory->release_dataset(1);
    EXPECT_EQ(put_one(*memory, make_chunk(999, 100'000), 2), PutOutcome::kStored);
  }
  std::ofstream(mount_point + "/filler") << std::string(4 * kMiB, 'x');
  {
    NodeMemoryOptions options;
    options.directory = mount_point + "/second";
    const auto off = NodeMemory::open(options);  // no room for its control file: off, but no error
    EXPECT_EQ(put_one(*off, make_chunk(1, 1000)), PutOutcome::kRefused);
    EXPECT_FALSE(off->find(make_chunk(1, 1000).hash));
    EXPECT_EQ(off->usage().used_bytes, 0u);
  }
  umount2(mount_point.c_str(), MNT_DETACH);  // lock files stay open
}

}  // namespace
}  // namespace alnair
