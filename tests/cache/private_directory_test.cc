#include "cache/private_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string message_of(const std::string& path) {
  try {
    open_private_directory(path);
  } catch (const CacheError& error) {
    return error.what();
  }
  return "";
}

TEST(PrivateDirectory, IsMadeWithItsParentsAndModeSevenHundred) {
  testing::TemporaryDirectory base;
  EXPECT_EQ(open_private_directory(base / "a/b//c///"), base / "a/b//c");
  struct stat status {};
  ASSERT_EQ(stat((base / "a/b/c").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST(PrivateDirectory, OfALaxerModeIsTightened) {
  testing::TemporaryDirectory base;
  ASSERT_EQ(chmod(base.path().c_str(), 0777), 0);
  open_private_directory(base.path());
  struct stat status {};
  ASSERT_EQ(stat(base.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST(PrivateDirectory, MayBeNoSymbolicLinkAndNoFile) {
  testing::TemporaryDirectory base;
  ASSERT_EQ(mkdir((base / "real").c_str(), 0700), 0);
  ASSERT_EQ(symlink("real", (base / "link").c_str()), 0);
  EXPECT_THAT(message_of(base / "link"), AllOf(HasSubstr(base / "link"), HasSubstr("symbolic link")));
  EXPECT_THAT(message_of(base / "link/"), HasSubstr("symbolic link"));
  std::ofstream(base / "file") << "x";
  EXPECT_THAT(message_of(base / "file"), HasSubstr(base / "file"));
  EXPECT_THAT(message_of(base / "file/below"), HasSubstr(base / "file/below"));
}

TEST(PrivateDirectory, OfAnotherUserIsRefusedWithBothUserIds) {
  testing::TemporaryDirectory base;
  if (chown(base.path().c_str(), 4242, 4242) != 0) GTEST_SKIP() << "needs root";
  EXPECT_THAT(message_of(base.path()),
              AllOf(HasSubstr(base.path()), HasSubstr("4242"), HasSubstr(fmt::format("user {}", geteuid()))));
}

}  // namespace
}  // namespace alnair
