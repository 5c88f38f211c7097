#include "dataset/key_entries.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <thread>

#include "alnair/core/error.h"
#include "support/map_source.h"

namespace alnair {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class KeyEntries : public ::testing::Test {
 protected:
  KeyEntries() {
    for (const char* key : {"train", "train/a/1.png", "train/a/2.png", "train/b/1.png", "training/x", "val/1.png",
                            "val/2.png", "words.txt"})
      source_.put(key, "x");
  }

  // What the selection lists, as "key" for an object and "prefix*" for a prefix.
  std::vector<std::string> resolve(std::vector<std::string> scope, std::vector<std::string> keys) {
    const KeySelection selection = resolve_key_entries(source_, scope, keys, warnings_, {});
    std::vector<std::string> result;
    for (const auto& object : selection.objects) result.push_back(object.key);
    for (const auto& prefix : selection.prefixes) result.push_back(prefix + "*");
    std::sort(result.begin(), result.end());
    return result;
  }

  std::string failure(std::vector<std::string> scope, std::vector<std::string> keys) {
    try {
      resolve(std::move(scope), std::move(keys));
    } catch (const NotFoundError& error) {
      return error.what();
    }
    return "no error";
  }

  testing::MapSource source_;
  std::vector<std::string> warnings_;
};

TEST_F(KeyEntries, NoEntryIsEverything) { EXPECT_THAT(resolve({}, {}), ElementsAre("*")); }

TEST_F(KeyEntries, AnExactKeyComesBeforeTheFolderOfThatName) {
  EXPECT_THAT(resolve({}, {"train"}), ElementsAre("train"));
  source_.remove("train");
  EXPECT_THAT(resolve({}, {"train"}), ElementsAre("train/*"));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(KeyEntries, ATrailingSlashOrStarMakesARawPrefix) {
  EXPECT_THAT(resolve({}, {"train/"}), ElementsAre("train/*"));
  EXPECT_THAT(resolve({}, {"train*"}), ElementsAre("train*"));
  EXPECT_THAT(resolve({}, {"*"}), ElementsAre("*"));
}

TEST_F(KeyEntries, AnEntryThatMatchesNothingIsTriedAsARawPrefixWithAWarning) {
  EXPECT_THAT(resolve({}, {"word"}), ElementsAre("word*"));
  EXPECT_THAT(warnings_,
              ElementsAre("'word' is neither an object nor a folder in map://test; taken as the raw prefix 'word*'"));
}

TEST_F(KeyEntries, OverlapsCountOnce) {
  EXPECT_THAT(resolve({}, {"train/", "train/a/", "train/a/1.png", "train/", "val", "val/1.png"}),
              ElementsAre("train/*", "val/*"));
}

TEST_F(KeyEntries, KeysNarrowTheScope) {
  EXPECT_THAT(resolve({"train/"}, {"train/a"}), ElementsAre("train/a/*"));
  EXPECT_THAT(resolve({"train/a", "val"}, {"*"}), ElementsAre("train/a/*", "val/*"));
  EXPECT_THAT(resolve({"val/1.png"}, {"val"}), ElementsAre("val/1.png"));
}

TEST_F(KeyEntries, AKeyOutsideTheScopeIsAnErrorThatNamesBoth) {
  EXPECT_EQ(failure({"val"}, {"train/a"}), "'train/a' is outside the datasource, which consists of 'val'");
}

TEST_F(KeyEntries, APrefixThatMatchesNothingNamesNearOnes) {
  EXPECT_EQ(failure({}, {"vall"}), "no object in map://test matches 'vall'; near it: 'val/', 'train', 'train/'");
  EXPECT_EQ(failure({}, {"train/c/"}), "no object in map://test matches 'train/c/'; near it: 'train/a/', 'train/b/'");
}

TEST_F(KeyEntries, AnEmptySourceSaysSo) {
  testing::MapSource empty;
  try {
    resolve_key_entries(empty, {}, std::vector<std::string>{"a"}, warnings_, {});
    FAIL() << "no error";
  } catch (const NotFoundError& error) {
    EXPECT_STREQ(error.what(), "no object in map://test matches 'a': there are no objects at all");
  }
}

TEST_F(KeyEntries, WhereAllIsTakenAsRawPrefixesAFewWarningsSaySo) {
  EXPECT_THAT(resolve({}, {"w", "wo", "wor", "word", "words"}), ElementsAre("w*"));
  ASSERT_EQ(warnings_.size(), 4U);
  EXPECT_EQ(warnings_.back(), "2 more entries are taken as raw prefixes, too");
}

TEST_F(KeyEntries, ManyNeighboursCauseOneListing) {
  std::vector<std::string> keys, expected;
  for (int i = 0; i < 100'000; ++i) {
    keys.push_back("many/" + std::to_string(1'000'000 + i));
    source_.put(keys.back(), "x");
  }
  source_.put("many/folder/1", "x");
  source_.put("many/1000007/not this one", "x");
  expected = keys;
  std::ranges::reverse(keys);
  keys.push_back("many/folder");
  keys.push_back("many/folder/1");
  keys.push_back(keys.front());
  expected.push_back("many/folder/*");
  const int before = source_.questions();
  EXPECT_EQ(resolve({"many"}, keys), expected);
  EXPECT_EQ(source_.lists(), 1);
  EXPECT_LE(source_.questions() - before, 4) << "the scope and the one entry that lies in another folder";
  EXPECT_THAT(warnings_, IsEmpty());

  keys.push_back("many/absent");
  EXPECT_EQ(failure({}, keys).substr(0, 50), "no object in map://test matches 'many/absent'; nea");
}

TEST_F(KeyEntries, EntriesOfAFolderWithTooMuchInItAreAskedForOneByOne) {
  for (int i = 0; i < 10'000; ++i) source_.put("big/sub/" + std::to_string(i), "x");
  std::vector<std::string> keys, expected;
  for (int i = 0; i < 20; ++i) {
    keys.push_back("big/" + std::to_string(10 + i));
    source_.put(keys.back(), "x");
  }
  EXPECT_EQ(resolve({}, keys), keys);
  EXPECT_EQ(source_.questions(), 20);
  keys[7] = "big/absent";
  EXPECT_EQ(failure({}, keys).substr(0, 49), "no object in map://test matches 'big/absent'; nea");
}

TEST_F(KeyEntries, AnExactKeyIsFoundByListingWhereLookingAtItIsForbidden) {
  struct Listed : testing::MapSource {
    std::optional<ObjectInfo> stat(std::string_view, const Interrupt&) override { throw AccessError("forbidden"); }
  } source;
  for (const char* key : {"a/1.png", "a/1.png.old", "b/2"}) source.put(key, "x");
  const auto selection = resolve_key_entries(source, {}, std::vector<std::string>{"a/1.png", "b"}, warnings_, {});
  ASSERT_EQ(selection.objects.size(), 1U);
  EXPECT_EQ(selection.objects[0].key, "a/1.png");
  EXPECT_THAT(selection.prefixes, ElementsAre("b/"));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(KeyEntries, AWaitForManyEntriesCanBeInterrupted) {
  // Each question is answered only once the wait has been given up.
  struct Stopped {};
  struct Slow : testing::MapSource {
    std::optional<ObjectInfo> stat(std::string_view, const Interrupt& interrupt) override {
      for (;;) {
        interrupt();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  } source;
  int asked = 0;
  const Interrupt interrupt = [&asked] {
    if (++asked == 2) throw Stopped();
  };
  EXPECT_THROW(resolve_key_entries(source, {}, std::vector<std::string>{"a", "b", "c"}, warnings_, interrupt), Stopped);
}

}  // namespace
}  // namespace alnair
