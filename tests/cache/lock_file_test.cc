#include "cache/lock_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "alnair/core/error.h"
#include "support/in_child.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace std::chrono_literals;
using testing::in_child;

class LockFileTest : public ::testing::Test {
 protected:
  testing::TemporaryDirectory directory_;
  LockFile& locks_ = LockFile::open(directory_ / "locks");
};

TEST_F(LockFileTest, AProcessOpensAFileOnce) {
  EXPECT_EQ(&LockFile::open(directory_ / "locks"), &locks_);
  EXPECT_EQ(&LockFile::open(directory_.path() + "/./locks"), &locks_);
  EXPECT_NE(&LockFile::open(directory_ / "others"), &locks_);
}

TEST_F(LockFileTest, ASymbolicLinkIsRefused) {
  ASSERT_EQ(symlink("locks", (directory_ / "link").c_str()), 0);
  EXPECT_THROW(LockFile::open(directory_ / "link"), CacheError);
  EXPECT_THROW(LockFile::open(directory_ / "missing/locks"), CacheError);
}

TEST_F(LockFileTest, AnExclusiveLockExcludesThisProcessToo) {
  ASSERT_TRUE(locks_.try_lock_exclusive(7));
  EXPECT_FALSE(locks_.try_lock_exclusive(7));
  EXPECT_FALSE(locks_.try_lock_shared(7));
  EXPECT_TRUE(locks_.try_lock_exclusive(8));
  locks_.unlock(7);
  EXPECT_TRUE(locks_.try_lock_shared(7));
  EXPECT_TRUE(locks_.try_lock_shared(7));
  EXPECT_FALSE(locks_.try_lock_exclusive(7));
  locks_.unlock(7);
  EXPECT_TRUE(locks_.is_locked(7));
  locks_.unlock(7);
  EXPECT_FALSE(locks_.is_locked(7));
  EXPECT_TRUE(locks_.is_locked(8));
  EXPECT_FALSE(locks_.is_locked_by_other_process(8));
}

TEST_F(LockFileTest, OffsetsOfEveryPurposeCanBeLocked) {
  const std::uint64_t last = lock_offset(LockPurpose::kDirectoryTier, ~std::uint64_t{0});
  EXPECT_TRUE(locks_.try_lock_exclusive(last));
  EXPECT_TRUE(locks_.try_lock_exclusive(lock_offset(LockPurpose::kAllocation)));
  EXPECT_TRUE(in_child([&] { return locks_.is_locked_by_other_process(last); }));
}

TEST_F(LockFileTest, AForkedChildHoldsNoneOfItsParentsLocksAndCannotDropThem) {
  ASSERT_TRUE(locks_.try_lock_exclusive(1));
  ASSERT_TRUE(locks_.try_lock_shared(2));
  EXPECT_TRUE(in_child([&] {
    locks_.unlock(1);  // not the child's
    LockFile& again = LockFile::open(directory_ / "locks");
    return &again == &locks_ && !again.try_lock_exclusive(1) && again.is_locked_by_other_process(1) &&
           !again.try_lock_exclusive(2) && again.try_lock_shared(2);
  }));
  EXPECT_TRUE(in_child([&] { return !locks_.try_lock_exclusive(1); }));  // still held after a child's exit
}

TEST_F(LockFileTest, AGuardInheritedByAChildReleasesNothing) {
  LockFile::Guard guard = locks_.try_exclusive(3);
  ASSERT_TRUE(guard);
  in_child([&] {
    guard.release();
    return true;
  });
  EXPECT_TRUE(in_child([&] { return locks_.is_locked_by_other_process(3); }));
  guard.release();
  EXPECT_TRUE(in_child([&] { return locks_.try_lock_exclusive(3); }));
}

TEST_F(LockFileTest, ALockDiesWithItsHolder) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool locked = locks_.try_lock_exclusive(5);
    [[maybe_unused]] const auto written = write(ready[1], &locked, 1);
    pause();
    _exit(0);
  }
  bool locked = false;
  ASSERT_EQ(read(ready[0], &locked, 1), 1);
  ASSERT_TRUE(locked);
  EXPECT_FALSE(locks_.try_lock_exclusive(5));
  EXPECT_FALSE(locks_.wait_exclusive(5, 5ms));
  kill(child, SIGKILL);
  EXPECT_TRUE(locks_.wait_exclusive(5, 10s));
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

}  // namespace
}  // namespace alnair
