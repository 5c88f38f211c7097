#include "cache/memory/memory_limits.h"

#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <filesystem>
#include <fstream>

#include "support/temporary_directory.h"

namespace alnair {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class ControlGroup : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  testing::TemporaryDirectory root_;
};

TEST_F(ControlGroup, OfVersionTwoCountsDroppablePagesAsFreeAndLooksAtTheGroupsAbove) {
  write("job/memory.max", "1000000\n");
  write("job/memory.current", "600000\n");
  write("job/memory.stat", "anon 1\ninactive_file 100000\nactive_file 5\n");
  EXPECT_EQ(control_group_remaining("0::/job\n", root_.path()), 500000u);
  write("job/step/memory.max", "max\n");
  write("job/step/memory.current", "10\n");
  EXPECT_EQ(control_group_remaining("0::/job/step\n", root_.path()), 500000u);
  EXPECT_EQ(control_group_remaining("0::/\n", root_.path()), std::nullopt);
  write("memory.max", "300000\n");
  write("memory.current", "400000\n");
  EXPECT_EQ(control_group_remaining("0::/job/step\n", root_.path()), 0u);
}

TEST_F(ControlGroup, OfVersionOneIsFoundByItsController) {
  write("memory/docker/abc/memory.limit_in_bytes", "5000\n");
  write("memory/docker/abc/memory.usage_in_bytes", "1000\n");
  write("memory/memory.limit_in_bytes", "9223372036854771712\n");  // no limit
  write("memory/memory.usage_in_bytes", "1000\n");
  const std::string membership = "9:name=systemd:/\n8:pids:/x\n4:cpu,memory:/docker/abc\n0::/\n";
  EXPECT_EQ(control_group_remaining(membership, root_.path()), 4000u);
  EXPECT_EQ(control_group_remaining("8:pids:/x\n", root_.path()), std::nullopt);
}

TEST_F(ControlGroup, ThatIsNotVisibleFromInsideAContainerIsReadAtTheRoot) {
  write("memory/memory.limit_in_bytes", "7000\n");
  write("memory/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(control_group_remaining("4:memory:/kubepods/pod1\n", root_.path()), 6000u);
}

TEST_F(ControlGroup, GarbageIsNoLimit) {
  write("job/memory.max", "many\n");
  EXPECT_EQ(control_group_remaining("0::/job\n", root_.path()), std::nullopt);
  EXPECT_EQ(control_group_remaining("nonsense\n:\n", root_.path()), std::nullopt);
  EXPECT_EQ(control_group_remaining("", root_.path()), std::nullopt);
}

TEST(MemoryLimits, DefaultIsAtMostHalfOfWhatIsFree) {
  testing::TemporaryDirectory directory("/dev/shm");
  struct statvfs status {};
  ASSERT_EQ(statvfs(directory.path().c_str(), &status), 0);
  const std::uint64_t free_bytes = status.f_bavail * status.f_frsize,
                      limit = default_memory_limit(directory.path());
  EXPECT_GT(limit, 0u);
  EXPECT_LE(limit, free_bytes / 2 + free_bytes / 8);  // others use it meanwhile
  EXPECT_EQ(default_memory_limit(directory / "missing"), 0u);
}

TEST(MemoryLimits, SegmentsAreSmallerWhereTheLimitIsSmall) {
  const auto completed = [](std::uint64_t limit) {
    return complete_limits({limit, 0, 0, EvictionPolicy::kNone});
  };
  EXPECT_EQ(completed(16384 * kMiB).segment, 64 * kMiB);
  EXPECT_EQ(completed(512 * kMiB).segment, 32 * kMiB);
  EXPECT_EQ(completed(32 * kMiB).segment, 4 * kMiB);  // half of a container's /dev/shm
  EXPECT_EQ(completed(8 * kMiB).segment, 1 * kMiB);
  EXPECT_EQ(completed(0).segment, 64u << 10);
}

TEST(MemoryLimits, TransitIsAQuarterAndAtLeastTwoSegments) {
  EXPECT_EQ(complete_limits({1024 * kMiB, 0, 0, EvictionPolicy::kNone}).transit, 256 * kMiB);
  EXPECT_EQ(complete_limits({16 * kMiB, 0, 4 * kMiB, EvictionPolicy::kNone}).transit, 8 * kMiB);
  EXPECT_EQ(complete_limits({1024 * kMiB, 100 * kMiB, 0, EvictionPolicy::kNone}).transit, 100 * kMiB);
}

}  // namespace
}  // namespace alnair
