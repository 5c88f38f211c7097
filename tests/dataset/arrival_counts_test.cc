#include "dataset/arrival_counts.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "support/temporary_directory.h"

namespace alnair {
namespace {

TEST(ArrivalCounts, AreSharedByAllProcessesOfTheDirectory) {
  const testing::TemporaryDirectory directory("/dev/shm");
  const ArrivalCounts here(directory.path(), 1);
  EXPECT_EQ(here.get(5), 0);
  const pid_t child = fork();
  if (child == 0) {
    ArrivalCounts there(directory.path(), 1);
    there.add(5);
    there.add(5);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(here.get(5), 2);
  EXPECT_EQ(here.get(6), 0);
  EXPECT_EQ(ArrivalCounts(directory.path(), 2).get(5), 0) << "another dataset's";
}

TEST(ArrivalCounts, WithoutADirectoryOrWithADamagedFileTheyCountAnew) {
  ArrivalCounts alone("", 1);
  alone.add(7);
  EXPECT_EQ(alone.get(7), 1);
  const testing::TemporaryDirectory directory("/dev/shm");
  std::ofstream(directory / "arrivals") << "short";
  ArrivalCounts counts(directory.path(), 1);
  counts.add(7);
  EXPECT_EQ(ArrivalCounts(directory.path(), 1).get(7), 1);
}

}  // namespace
}  // namespace alnair
