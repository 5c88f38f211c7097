// One version for the processes of a run, and manifests that are handed to another node.
#include "dataset/run_record.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/dataset/dataset.h"
#include "support/map_source.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using ::testing::HasSubstr;

class RunTest : public ::testing::Test {
 protected:
  RunTest() { source_->put("a", "first"); }

  DatasetOptions options(const std::string& node = "here") const {
    DatasetOptions result;
    result.object_source = source_;
    result.cache.cache_dir = disk_ / ("cache-" + node);
    result.cache.memory_dir = memory_ / ("memory-" + node);
    result.cache.memory_limit = 64 << 20;
    result.cache.disk_limit = 256 << 20;
    return result;
  }
  std::string version_in_run(const std::string& run, const std::string& node = "here") const {
    auto chosen = options(node);
    chosen.run = run;
    return Dataset::open(chosen)->version();
  }
  std::shared_ptr<Node> node() const { return open_node(options().cache); }
  std::filesystem::path only_record() const {
    for (const auto& entry : std::filesystem::directory_iterator(memory_ / "memory-here/shared"))
      if (entry.path().filename().string().starts_with("run-")) return entry.path();
    throw std::runtime_error("there is no record");
  }

  std::shared_ptr<testing::MapSource> source_ = std::make_shared<testing::MapSource>();
  testing::TemporaryDirectory disk_;
  testing::TemporaryDirectory memory_{"/dev/shm"};
};

TEST_F(RunTest, ProcessesOfARunReadTheVersionThatTheFirstOneFound) {
  const std::string first = version_in_run("one");
  source_->put("b", "second");
  EXPECT_EQ(version_in_run("one"), first);
  EXPECT_NE(version_in_run("two"), first);
  EXPECT_NE(Dataset::open(options())->version(), first);
  EXPECT_EQ(version_in_run("one"), first);
}

TEST_F(RunTest, ADamagedRecordIsNone) {
  const std::string first = version_in_run("one");
  source_->put("b", "second");
  std::ofstream(only_record()) << std::string(64, 'z');
  const std::string second = version_in_run("one");
  EXPECT_NE(second, first);
  EXPECT_EQ(version_in_run("one"), second);
}

TEST_F(RunTest, TheFirstRecordStays) {
  const RunRecord record(*node(), "run", "dataset");
  EXPECT_EQ(record.version(), "");
  record.write(std::string(64, 'a'));
  record.write(std::string(64, 'b'));
  EXPECT_EQ(record.version(), std::string(64, 'a'));
  EXPECT_EQ(RunRecord(*node(), "run", "another").version(), "");
}

TEST_F(RunTest, OneProcessAtATimeFindsAVersionOutAndAKilledOneIsFollowed) {
  auto here = node();
  const RunRecord record(*here, "run", "dataset");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto turn = RunRecord(*open_node(options().cache), "run", "dataset").wait_for_turn({});
    if (write(ready[1], turn ? "y" : "n", 1) != 1) _exit(1);
    pause();
  }
  char has_turn = 0;
  ASSERT_EQ(read(ready[0], &has_turn, 1), 1);
  EXPECT_EQ(has_turn, 'y');
  int asked = 0;
  EXPECT_THROW((void)record.wait_for_turn([&] {
    if (++asked == 3) throw std::runtime_error("interrupted");
  }),
               std::runtime_error);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(record.wait_for_turn({}));
  close(ready[0]);
  close(ready[1]);
}

TEST_F(RunTest, AManifestIsHandedToAnotherNode) {
  const auto here = Dataset::open(options());
  source_->put("b", "second");
  auto there = options("there");
  there.version = here->version();
  EXPECT_THROW(Dataset::open(there), NotFoundError);
  there.manifest = std::make_shared<const std::vector<std::byte>>(here->manifest_blob());
  ASSERT_FALSE(there.manifest->empty());
  const auto copy = Dataset::open(there);
  EXPECT_EQ(copy->version(), here->version());
  EXPECT_EQ(copy->manifest().size(), 1U);
  EXPECT_EQ(copy->read(0).text(), "first");
  there.manifest = nullptr;
  EXPECT_EQ(Dataset::open(there)->version(), here->version());  // it is kept there now
}

TEST_F(RunTest, AManifestOfAnotherVersionIsRefused) {
  auto there = options("there");
  there.manifest = std::make_shared<const std::vector<std::byte>>(Dataset::open(options())->manifest_blob());
  there.version = std::string(64, '0');
  try {
    Dataset::open(there);
    FAIL() << "nothing was thrown";
  } catch (const CacheError& error) {
    EXPECT_THAT(error.what(), HasSubstr("not " + there.version));
  }
}

}  // namespace
}  // namespace alnair
