// Several processes on one directory, and processes killed at any point.
#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <thread>

#include "core/log.h"
#include "directory_support.h"
#include "hooked_file_system.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace testing::disk;
using namespace std::chrono_literals;

// Of the files that are still there when they are asked.
std::map<std::filesystem::path, std::uint64_t> file_sizes(const std::string& directory) {
  std::map<std::filesystem::path, std::uint64_t> sizes;
  for (const auto& file : files_in(directory)) {
    std::error_code gone;
    if (const auto size = std::filesystem::file_size(file, gone); !gone) sizes[file] = size;
  }
  return sizes;
}

class DirectoryProcessesTest : public ::testing::TestWithParam<bool> {
 protected:
  DirectoryOptions options() const {
    DirectoryOptions options;
    options.directory = cache_;
    if (GetParam()) options.node_directory = root_ / "node";
    options.limit_bytes = 64u << 20;
    options.rescan_after = 0ms;
    return options;
  }

  // Runs `body` in a child, which ends without returning to the test.
  template <typename Body>
  static pid_t start(Body body) {
    const pid_t child = fork();
    if (child == 0) {
      body();
      _exit(0);
    }
    return child;
  }
  // The child's wait status.
  static int finish(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status;
  }

  TemporaryDirectory root_{"/dev/shm"};  // a kill is no power failure: syncing a disk would test nothing more
  const std::string cache_ = root_ / "cache";
};

TEST_P(DirectoryProcessesTest, AKillAtAnyCallLosesNothingSealedAndLeavesNothingBehind) {
  const auto before = make_chunks(10, 10'000, 1), more = make_chunks(40, 10'000, 2),
             last = make_chunks(9, 1000, 3);
  bool killed = true;
  int step = 0;
  for (; killed; ++step) {
    std::filesystem::remove_all(cache_);
    std::filesystem::remove_all(root_ / "node");
    {
      DirectoryTier tier(options());
      ASSERT_EQ(count_stored(tier, before), 10u);
    }
    killed = WIFSIGNALED(finish(start([&] {
      DirectoryOptions deadly = options();
      deadly.durable = step % 2 == 0;
      deadly.segment_bytes = 150'000;  // several segments
      auto calls = std::make_shared<std::atomic<int>>(0);
      deadly.files = std::make_shared<HookedFileSystem>([calls, step](std::string_view, const std::string&) {
        if ((*calls)++ == step) kill(getpid(), SIGKILL);
        return 0;
      });
      DirectoryTier tier(deadly);
      count_hits(tier, before);
      count_stored(tier, more);
      tier.flush();
      for (const PutRequest& chunk : last) {  // enough small segments to be merged
        count_stored(tier, {&chunk, 1});
        tier.flush();
      }
    })));
    DirectoryTier tier(options());
    EXPECT_EQ(count_hits(tier, before), 10u) << step;
    const std::size_t kept = count_hits(tier, more);  // aborts on wrong bytes
    EXPECT_TRUE(killed || kept == 40);
    // What the killed process left is removed by the scan that the first read starts.
    while (GetParam() && !files_in(cache_, ".open").empty()) std::this_thread::sleep_for(1ms);
    // A new process writes what is missing, and finds everything.
    EXPECT_LE(count_stored(tier, more), 40 - kept)
        << step;  // less, if the scan has found a segment meanwhile
    EXPECT_EQ(count_hits(tier, more), 40u) << step;
    tier.flush();
    EXPECT_EQ(count_hits(tier, more), 40u) << step;
  }
  EXPECT_GT(step, 25);
}

TEST_P(DirectoryProcessesTest, ProcessesThatWriteAtOnceFindEachOthersChunks) {
  constexpr int kProcesses = 4;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(start([&, p] {
      DirectoryOptions small = options();
      small.segment_bytes = 200'000;
      DirectoryTier tier(small);
      if (count_stored(tier, make_chunks(50, 10'000, p, p)) != 50) _exit(1);
      tier.flush();
      for (int other = 0; other < kProcesses; ++other) {
        const auto chunks = make_chunks(50, 10'000, other, other);
        for (int tries = 0; count_hits(tier, chunks) < 50; ++tries) {
          if (tries > 20'000) _exit(2);
          std::this_thread::sleep_for(1ms);
        }
      }
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(finish(child), 0);
}

TEST_P(DirectoryProcessesTest, TheLimitHoldsAmongProcesses) {
  if (!GetParam()) GTEST_SKIP() << "without locks it may be exceeded by an open segment a process";
  DirectoryOptions small = options();
  small.limit_bytes = 8u << 20;
  small.eviction = EvictionPolicy::kLru;
  std::vector<pid_t> children;
  for (int p = 0; p < 4; ++p) {
    children.push_back(start([&, p] {
      DirectoryTier tier(small);
      for (int round = 0; round < 30; ++round) {
        count_stored(tier, make_chunks(20, 20'000, 100 * p + round, p));
        count_hits(tier, make_chunks(20, 20'000, 100 * p + round / 2, p));
      }
    }));
  }
  std::uint64_t most = 0;
  for (std::size_t running = children.size(); running > 0;) {
    for (pid_t& child : children) {
      int status = 0;
      if (child != 0 && waitpid(child, &status, WNOHANG) == child) {
        EXPECT_EQ(status, 0);
        child = 0;
        --running;
      }
    }
    // Files come and go while they are counted: only what two countings agree on was ever there at once.
    if (const auto sizes = file_sizes(cache_); sizes == file_sizes(cache_)) {
      std::uint64_t bytes = 0;
      for (const auto& [name, size] : sizes) bytes += size;
      most = std::max(most, bytes);
    }
  }
  EXPECT_LE(most, 8u << 20);
  EXPECT_GT(most, 6u << 20);
}

TEST_P(DirectoryProcessesTest, ADatasetThatAnotherLiveProcessHoldsStays) {
  if (!GetParam()) GTEST_SKIP() << "holds are shared through node memory";
  DirectoryOptions small = options();
  small.limit_bytes = 4u << 20;
  const auto held = make_chunks(40, 50'000, 1, 1);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = start([&] {
    DirectoryTier tier(small);
    tier.hold_dataset(1);
    count_stored(tier, held);
    tier.flush();
    (void)!write(ready[1], "x", 1);
    pause();
  });
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  DirectoryTier tier(small);
  EXPECT_EQ(count_hits(tier, held), 40u);
  for (int i = 0; i < 5; ++i) count_stored(tier, make_chunks(40, 50'000, 10 + i, 10 + i));
  EXPECT_EQ(count_hits(tier, held), 40u);
  kill(holder, SIGKILL);
  finish(holder);
  bool present[40] = {true};
  for (int i = 20; present[0]; ++i) {  // refused for a while: room is not looked for each time
    count_stored(tier, make_chunks(40, 50'000, i, i));
    tier.contains(hashes_of(held), present);
    std::this_thread::sleep_for(10ms);
  }
  close(ready[0]);
  close(ready[1]);
}

INSTANTIATE_TEST_SUITE_P(Sharing, DirectoryProcessesTest, ::testing::Bool(),
                         [](const auto& which) { return which.param ? "SharedIndex" : "PrivateIndex"; });

}  // namespace
}  // namespace alnair
