#include "dataset/shared_bytes.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::TemporaryDirectory;

class SharedBytesTest : public ::testing::Test {
 protected:
  std::string lend(std::string_view text) const {
    return lend_bytes(directory_.path(), std::as_bytes(std::span(text)));
  }
  View lent(const std::string& name) const { return lent_bytes(directory_.path(), name); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory_.path()), {}));
  }

  TemporaryDirectory directory_{"/dev/shm"};
};

TEST_F(SharedBytesTest, AnotherProcessReadsWhatOneLends) {
  const std::string name = lend("some bytes");
  EXPECT_TRUE(name.starts_with("list-"));
  const pid_t child = fork();
  if (child == 0) _exit(lent(name).text() == "some bytes" ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(SharedBytesTest, EqualBytesAreOneFile) {
  EXPECT_EQ(lend("equal"), lend("equal"));
  EXPECT_NE(lend("equal"), lend("other"));
  EXPECT_EQ(files(), 2u);
}

TEST_F(SharedBytesTest, AViewOutlivesTheFile) {
  const std::string name = lend("still here");
  const View view = lent(name);
  std::filesystem::remove(directory_ / name);
  EXPECT_EQ(view.text(), "still here");
  EXPECT_TRUE(lent(name).empty());
  EXPECT_EQ(lend("still here"), name);
  EXPECT_EQ(lent(name).text(), "still here");
}

TEST_F(SharedBytesTest, ADamagedFileIsRemovedAndMadeAgain) {
  const std::string name = lend("intact");
  std::ofstream(directory_ / name, std::ios::in) << "broken";
  EXPECT_TRUE(lent(name).empty());
  EXPECT_EQ(files(), 0u);
  EXPECT_EQ(lend("intact"), name);
  EXPECT_EQ(lent(name).text(), "intact");
}

TEST_F(SharedBytesTest, ThereAreNeverManyFiles) {
  for (int i = 0; i < 100; ++i) lend("number " + std::to_string(i));
  EXPECT_EQ(files(), 32u);
}

TEST_F(SharedBytesTest, WithoutADirectoryNothingIsLent) {
  EXPECT_EQ(lend_bytes("", std::as_bytes(std::span(std::string_view("x")))), "");
  EXPECT_EQ(lend_bytes("/nonexistent", std::as_bytes(std::span(std::string_view("x")))), "");
  EXPECT_EQ(lend(""), "");
  EXPECT_TRUE(lent("list-nonsense").empty());
  EXPECT_TRUE(lent("../list-" + std::string(64, 'a')).empty());
}

}  // namespace
}  // namespace alnair
