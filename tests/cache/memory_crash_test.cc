// Node memory when processes are killed, and when its files are damaged, cut or removed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "cache/memory/node_memory.h"
#include "cache/tier_contract.h"
#include "core/metrics.h"

namespace alnair {
namespace {

namespace fs = std::filesystem;
using testing::Chunk;
using testing::make_chunk;
using testing::put_one;
using testing::same_bytes;

constexpr std::uint64_t kMiB = 1 << 20;

class MemoryCrashTest : public ::testing::Test {
 protected:
  std::shared_ptr<NodeMemory> open(EvictionPolicy policy = EvictionPolicy::kLru) {
    NodeMemoryOptions options;
    options.directory = directory_ / "memory";
    options.limit = 8 * kMiB;
    options.policy = policy;
    return NodeMemory::open(options);
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_ / "memory/v1"))
      if (entry.path().filename() != "locks") names.push_back(entry.path());
    std::sort(names.begin(), names.end());
    return names;
  }
  // Whatever was done to it: what is found is right, and chunks can be put and found again.
  void expect_sound(NodeMemory& memory, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = first; i < first + count; ++i) {
      const Chunk chunk = make_chunk(i, 7000);
      const auto view = memory.find(chunk.hash);
      ASSERT_TRUE(!view || same_bytes(view, chunk)) << i;
      ASSERT_NE(put_one(memory, chunk), PutOutcome::kRefused) << i;
      ASSERT_TRUE(same_bytes(memory.find(chunk.hash), chunk)) << i;
    }
  }
  testing::TemporaryDirectory directory_{"/dev/shm"};
};

// Puts and gets for ever; a wrong byte ends it with status 1.
[[noreturn]] void work(NodeMemory& memory, unsigned seed) {
  alarm(60);  // should the parent die
  std::mt19937 random(seed);
  for (;;) {
    const Chunk chunk = make_chunk(random() % 500, 7000 + random() % 3 * 50'000);
    const bool transit = random() % 4 == 0;
    put_one(memory, chunk, random() % 3, transit);
    if (transit && random() % 2 == 0) memory.consume({&chunk.hash, 1});
    const auto view = memory.find(chunk.hash);
    if (view && !same_bytes(view, chunk)) _exit(1);
    if (memory.usage().used_bytes > 8 * kMiB) _exit(2);
  }
}

TEST_F(MemoryCrashTest, ProcessesKilledAtRandomInstantsLeaveNothingBehindThatHurts) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<pid_t> children;
    for (unsigned c = 0; c < 3; ++c) {
      children.push_back(fork());
      if (children.back() != 0) continue;
      const auto memory = open();
      work(*memory, static_cast<unsigned>(round) * 10 + c);
    }
    usleep(static_cast<useconds_t>(1000 + random() % 40'000));
    for (const pid_t child : children) kill(child, SIGKILL);
    for (const pid_t child : children) {
      int status = 0;
      waitpid(child, &status, 0);
      EXPECT_TRUE(WIFSIGNALED(status)) << "wrong bytes (1) or beyond the limit (2): " << WEXITSTATUS(status);
    }
    const auto memory = open();
    expect_sound(*memory, 1000, 5);
    ASSERT_LE(memory->usage().used_bytes, 8 * kMiB);
    for (const std::string& name : files()) EXPECT_EQ(name.find("dead-"), std::string::npos) << name;
  }
}

TEST_F(MemoryCrashTest, ADamagedFileIsAMissAndIsRepaired) {
  for (int damage = 0; damage < 4; ++damage) {
    {
      const auto memory = open();
      for (std::uint64_t i = 0; i < 100; ++i) put_one(*memory, make_chunk(i, 7000));
    }
    for (const std::string& name : files()) {
      struct stat status {};
      if (stat(name.c_str(), &status) != 0) continue;  // removed when a file before it was repaired
      if (damage == 0) {
        ASSERT_EQ(truncate(name.c_str(), 0), 0);
      } else if (damage == 1) {
        ASSERT_EQ(truncate(name.c_str(), status.st_size / 2), 0);
      } else if (damage == 2) {
        std::ofstream(name, std::ios::trunc) << std::string(static_cast<std::size_t>(status.st_size), '\x5a');
      } else {
        std::fstream file(name, std::ios::in | std::ios::out | std::ios::binary);
        for (off_t at = 13; at < status.st_size; at += 97) {
          file.seekp(at);
          file.put('\x77');
        }
      }
      const auto memory = open();
      expect_sound(*memory, 0, 100);
    }
  }
}

TEST_F(MemoryCrashTest, EveryBitOfARecordIsCovered) {
  const auto memory = open();
  const Chunk chunk = make_chunk(1, 40);
  put_one(*memory, chunk);
  const std::string name = directory_ / "memory/v1/segment-0";
  const int fd = ::open(name.c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  for (off_t at = kFirstRecord; at < static_cast<off_t>(kFirstRecord) + 48 + 40; ++at) {
    std::uint8_t byte = 0;
    ASSERT_EQ(pread(fd, &byte, 1, at), 1);
    const std::uint8_t flipped = byte ^ 0x10;
    ASSERT_EQ(pwrite(fd, &flipped, 1, at), 1);
    const std::uint64_t corrupt = metrics().value(TierId::kMemory, TierCounter::kCorrupt);
    EXPECT_FALSE(memory->find(chunk.hash)) << at;
    EXPECT_EQ(metrics().value(TierId::kMemory, TierCounter::kCorrupt), corrupt + 1) << at;
    ASSERT_EQ(pwrite(fd, &byte, 1, at), 1);
    const Location place{0, kFirstRecord};  // the entry was erased
    NodeMemoryOptions options;
    LockFile& locks = LockFile::open(directory_ / "memory/v1/locks");
    SharedIndex index(directory_ / "memory/v1/index", 4096, kMiB, locks,
                      lock_offset(LockPurpose::kIndexGrowth));
    ASSERT_TRUE(index.insert(chunk.hash, place, [](std::uint32_t) { return false; }));
    ASSERT_TRUE(same_bytes(memory->find(chunk.hash), chunk));
  }
  close(fd);
}

TEST_F(MemoryCrashTest, FilesCutWhileTheyAreMappedAreMissesNotCrashes) {
  const auto memory = open();
  for (std::uint64_t i = 0; i < 100; ++i) {
    put_one(*memory, make_chunk(i, 7000));
    ASSERT_TRUE(memory->find(make_chunk(i, 7000).hash));
  }
  for (const std::string& name : files()) {
    ASSERT_EQ(truncate(name.c_str(), 0), 0);
    for (std::uint64_t i = 0; i < 100; ++i) {
      const Chunk chunk = make_chunk(i, 7000);
      const auto view = memory->find(chunk.hash);
      ASSERT_TRUE(!view || same_bytes(view, chunk));
    }
  }
  expect_sound(*memory, 0, 100);
}

TEST_F(MemoryCrashTest, ADirectoryDeletedMidRunIsMadeAnew) {
  const auto memory = open();
  const Chunk chunk = make_chunk(1, 7000);
  memory->hold_dataset(3);
  put_one(*memory, chunk, 3);
  const auto view = memory->find(chunk.hash);
  for (int round = 0; round < 3; ++round) {
    fs::remove_all(directory_ / "memory");
    const auto found = memory->find(chunk.hash);
    EXPECT_TRUE(!found || same_bytes(found, chunk));
    expect_sound(*memory, 10, 5);
    EXPECT_TRUE(open()->find(make_chunk(10, 7000).hash));
  }
  EXPECT_TRUE(same_bytes(view, chunk));
  memory->release_dataset(3);
}

TEST_F(MemoryCrashTest, ADirectoryThatCannotBeMadeAgainTurnsTheTierOff) {
  const auto memory = open();
  const Chunk chunk = make_chunk(1, 7000);
  put_one(*memory, chunk);
  fs::remove_all(directory_ / "memory");
  std::ofstream(directory_ / "memory") << "in the way";
  EXPECT_EQ(put_one(*memory, make_chunk(2, 7000)), PutOutcome::kRefused);
  EXPECT_FALSE(memory->find(chunk.hash));
  EXPECT_EQ(memory->locks(), nullptr);
  memory->erase(chunk.hash);
  memory->consume({&chunk.hash, 1});
  memory->hold_dataset(1);
  bool present = true;
  memory->contains({&chunk.hash, 1}, {&present, 1});
  EXPECT_FALSE(present);
}

TEST_F(MemoryCrashTest, UnknownFilesInTheFolderDoNoHarm) {
  ASSERT_TRUE(fs::create_directories(directory_ / "memory/v1/segment-5"));
  std::ofstream(directory_ / "memory/v1/segment-99") << "orphan";
  std::ofstream(directory_ / "memory/v1/dead-12x") << "unknown";
  const auto memory = open();
  expect_sound(*memory, 0, 20);
  EXPECT_FALSE(fs::exists(directory_ / "memory/v1/segment-99"));
}

}  // namespace
}  // namespace alnair
