#include "dataset/look_ahead_seat.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "support/temporary_directory.h"

namespace alnair {
namespace {

TEST(LookAheadSeat, CountsTheProcessesThatHaveOneUntilTheyLeaveOrDie) {
  const testing::TemporaryDirectory directory;
  LookAheadSeat seat(LockFile::open(directory / "locks"));
  const auto taken = [&seat] {
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    return seat.taken();
  };
  EXPECT_EQ(seat.taken(), 1u);
  seat.join();
  seat.join();
  EXPECT_EQ(taken(), 1u) << "of this process, once";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    LookAheadSeat own(LockFile::open(directory / "locks"));
    own.join();
    if (write(ready[1], "x", 1) != 1) _exit(1);
    pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(taken(), 2u);
  seat.leave();
  EXPECT_EQ(taken(), 2u);
  seat.leave();
  EXPECT_EQ(taken(), 1u);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  seat.join();
  EXPECT_EQ(taken(), 1u);
  for (const int fd : ready) close(fd);
}

TEST(LookAheadSeat, SaysWhetherAnybodyElseReads) {
  const testing::TemporaryDirectory directory;
  LookAheadSeat seat(LockFile::open(directory / "locks"));
  EXPECT_TRUE(seat.is_alone());
  {
    LookAheadSeat another(LockFile::open(directory / "locks"));
    EXPECT_FALSE(seat.is_alone()) << "another one of this process";
  }
  EXPECT_TRUE(seat.is_alone());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool inherited = seat.is_alone();
    LookAheadSeat own(LockFile::open(directory / "locks"));
    if (inherited || write(ready[1], "x", 1) != 1) _exit(1);
    pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_FALSE(seat.is_alone());
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(seat.is_alone());
  for (const int fd : ready) close(fd);
}

}  // namespace
}  // namespace alnair
