#include "alnair/source/local_source.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "source/contract.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Reading;
using testing::TemporaryDirectory;

void write_file(const std::string& path, const std::string& bytes) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

class LocalFixture final : public testing::SourceFixture {
 public:
  void put(const std::string& key, const std::string& bytes) override { write_file(directory_ / key, bytes); }
  void remove(const std::string& key) override { fs::remove(directory_ / key); }
  std::shared_ptr<ObjectSource> source() override { return open_local_source(directory_.path()); }
  testing::Deviations deviations() const override { return {.keys_are_paths = true, .max_component = 255}; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace

namespace testing {
INSTANTIATE_TEST_SUITE_P(Local, ObjectSourceContract,
                         ::testing::Values(SourceFactory{"directory",
                                                         [] { return std::make_unique<LocalFixture>(); }}),
                         source_name);
}

namespace {

std::vector<std::string> list(ObjectSource& source, const std::string& prefix = "") {
  std::vector<std::string> keys;
  source.list(std::vector<std::string>{prefix},
              [&](std::vector<ObjectInfo>&& page) {
                for (const ObjectInfo& object : page) keys.push_back(object.key);
              },
              {});
  std::sort(keys.begin(), keys.end());
  return keys;
}

template <typename Expected>
std::string message_of(auto&& call) {
  try {
    call();
  } catch (const Expected& error) {
    return error.what();
  }
  return "(another outcome)";
}

TEST(LocalSource, NeedsADirectory) {
  const TemporaryDirectory directory;
  write_file(directory / "file", "x");
  EXPECT_THAT(message_of<NotFoundError>([&] { open_local_source(directory / "absent"); }),
              AllOf(HasSubstr(directory / "absent"), HasSubstr("does not exist")));
  EXPECT_THAT(message_of<NotFoundError>([&] { open_local_source(directory / "file"); }),
              HasSubstr("is no directory"));
}

TEST(LocalSource, IsIdentifiedByItsCanonicalPath) {
  const TemporaryDirectory directory;
  fs::create_directories(directory / "a/b");
  fs::create_symlink(directory / "a", directory / "link");
  const std::string canonical = fs::canonical(directory / "a");
  EXPECT_EQ(open_local_source(directory / "a/b/..")->identity(), "file://" + canonical);
  EXPECT_EQ(open_local_source(directory / "link")->identity(), "file://" + canonical);
}

TEST(LocalSource, FollowsSymbolicLinksInsideTheRoot) {
  const TemporaryDirectory directory;
  write_file(directory / "a/1", "one");
  fs::create_symlink("1", directory / "a/relative");
  fs::create_symlink(directory / "a/1", directory / "absolute");
  fs::create_directory_symlink("a", directory / "b");
  fs::create_symlink("nowhere", directory / "dangling");
  const auto source = open_local_source(directory.path());
  EXPECT_THAT(list(*source), ElementsAre("a/1", "a/relative", "absolute", "b/1", "b/relative"));
  for (const char* key : {"a/relative", "absolute", "b/1"}) {
    const auto object = source->stat(key, {});
    ASSERT_TRUE(object) << key;
    EXPECT_EQ(Reading(*source, {*object, 0, object->size}).get(), "one");
  }
  EXPECT_EQ(source->stat("dangling", {}), std::nullopt);
}

TEST(LocalSource, RefusesSymbolicLinksThatLeadOut) {
  const TemporaryDirectory directory;
  write_file(directory / "outside/secret", "s");
  write_file(directory / "root/dir/ok", "x");
  fs::create_symlink("../outside/secret", directory / "root/link");
  fs::create_directory_symlink(directory / "outside", directory / "root/dirlink");
  const auto source = open_local_source(directory / "root");
  const auto refusal = AllOf(HasSubstr("link"), HasSubstr("leads out of"));
  EXPECT_THAT(message_of<AccessError>([&] { list(*source); }), refusal);
  EXPECT_THAT(message_of<AccessError>([&] { source->stat("link", {}); }), refusal);
  EXPECT_THAT(message_of<AccessError>([&] { source->stat("dirlink/secret", {}); }), refusal);
  ObjectInfo object;
  object.key = "link";
  object.size = 1;
  EXPECT_THAT(message_of<AccessError>([&] { Reading(*source, {object, 0, 1}).get(); }), refusal);
  EXPECT_THAT(list(*source, "dir/"), ElementsAre("dir/ok"));  // what lies elsewhere does not matter
}

TEST(LocalSource, IsNotCaughtInALoopOfSymbolicLinks) {
  const TemporaryDirectory directory;
  write_file(directory / "a/1", "one");
  fs::create_directory_symlink("..", directory / "a/up");
  fs::create_directory_symlink(".", directory / "self");
  fs::create_symlink("self-made", directory / "self-made");
  const auto source = open_local_source(directory.path());
  EXPECT_THAT(list(*source), ElementsAre("a/1"));
  EXPECT_THAT(list(*source, "a/"), ElementsAre("a/1"));
  EXPECT_EQ(source->stat("self-made", {}), std::nullopt);
}

TEST(LocalSource, ListsFilesOnly) {
  const TemporaryDirectory directory;
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  fs::create_directory(directory / "empty");
  write_file(directory / "file", "x");
  const auto source = open_local_source(directory.path());
  EXPECT_THAT(list(*source), ElementsAre("file"));
  EXPECT_EQ(source->stat("pipe", {}), std::nullopt);
}

TEST(LocalSource, TakesKeysOfBytesThatAreNoText) {
  const TemporaryDirectory directory;
  write_file(directory / "\xff\xfe\x01", "x");
  const auto source = open_local_source(directory.path());
  EXPECT_THAT(list(*source), ElementsAre("\xff\xfe\x01"));
  EXPECT_TRUE(source->stat("\xff\xfe\x01", {}));
}

TEST(LocalSource, KnowsEachFileByOneKeyOnly) {
  const TemporaryDirectory directory;
  write_file(directory / "a/b", "x");
  const auto source = open_local_source(directory.path());
  for (const std::string& key :
       std::vector<std::string>{"a//b", "a/./b", "a/../a/b", "/a/b", "a/b/", "", ".", "..", {"a\0b", 3}})
    EXPECT_EQ(source->stat(key, {}), std::nullopt) << key;
  EXPECT_TRUE(list(*source, "../").empty());
  EXPECT_TRUE(list(*source, "a//").empty());
}

TEST(LocalSource, NoticesAFileRewrittenWithTheSameSize) {
  const TemporaryDirectory directory;
  write_file(directory / "k", "first");
  const auto source = open_local_source(directory.path());
  const auto object = source->stat("k", {});
  write_file(directory / "k", "other");
  fs::last_write_time(directory / "k", fs::last_write_time(directory / "k") + std::chrono::microseconds(1));
  EXPECT_THAT(message_of<ChangedError>([&] {
                Reading(*source, {*object, 0, 5}).get();
              }),
              HasSubstr(directory / "k"));
}

TEST(LocalSource, RefusesRangesBeyondTheEnd) {
  const TemporaryDirectory directory;
  write_file(directory / "k", "12345");
  const auto source = open_local_source(directory.path());
  const auto object = source->stat("k", {});
  EXPECT_THROW(Reading(*source, {*object, 3, 3}).get(), SourceError);
  EXPECT_THROW(Reading(*source, {*object, 6, ~std::uint64_t{0}}).get(), SourceError);
}

TEST(LocalSource, ReadsInAForkedChild) {
  const TemporaryDirectory directory;
  write_file(directory / "k", "12345");
  const auto source = open_local_source(directory.path());
  const auto object = source->stat("k", {});
  EXPECT_EQ(Reading(*source, {*object, 0, 5}).get(), "12345");  // the parent has threads
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(Reading(*source, {*object, 0, 5}).get() == "12345" ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(LocalSource, SurvivesBeingDestroyedByItsOwnCallback) {
  const TemporaryDirectory directory;
  write_file(directory / "k", "12345");
  std::promise<void> ended;
  {
    auto source = open_local_source(directory.path());
    const auto object = source->stat("k", {});
    auto holder = std::make_shared<std::shared_ptr<ObjectSource>>(source);
    source->read({*object, 0, 5}, [holder, &ended](ReadResult) {
      while (holder->use_count() > 1) std::this_thread::yield();
      holder->reset();
      ended.set_value();
    });
  }
  EXPECT_EQ(ended.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
}

}  // namespace
}  // namespace alnair
