// A dataset whose cache_dir is on a file system that does not answer.
#include <gmock/gmock.h>

#include <mutex>

#include "alnair/dataset/dataset.h"
#include "core/log.h"
#include "support/map_source.h"
#include "support/nfs_like.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(HungHome, CostsOneWaitAndADatasetIsReadWithoutIt) {
  const testing::TemporaryDirectory root, shared_memory{"/dev/shm"};
  const auto home = testing::NfsLike::mount(root / "home", root / "server");
  if (home == nullptr) GTEST_SKIP() << "no FUSE here";
  std::mutex mutex;
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel, std::string_view message) {
    const std::lock_guard lock(mutex);
    warnings.emplace_back(message);
  });
  const auto source = std::make_shared<testing::MapSource>();
  for (int i = 0; i < 10; ++i) source->put(std::to_string(i), "object " + std::to_string(i));
  DatasetOptions options;
  options.object_source = source;
  options.cache.cache_dir = root / "home/cache";
  options.cache.memory_dir = shared_memory / "memory";
  options.cache.memory_limit = 64 << 20;
  home->command("hang");
  {
    const auto dataset = Dataset::open(options);
    for (int epoch = 0; epoch < 2; ++epoch)
      for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(dataset->read(i).text(), "object " + std::to_string(i));
    dataset->flush();
  }
  EXPECT_EQ(source->reads(), 10);
  home->command("well");
  set_log_sink({});
  EXPECT_THAT(warnings, Contains(HasSubstr("going on without a catalog and the directory tier: the file system of " +
                                           options.cache.cache_dir + " does not answer")));
}

}  // namespace
}  // namespace alnair
