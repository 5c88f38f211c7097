#include "core/ini.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "alnair/core/error.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string value(const IniFile& file, std::string_view section, std::string_view name) {
  const IniSection* found = file.find(section);
  if (found == nullptr) return "(no section)";
  const IniEntry* entry = found->find(name);
  return entry == nullptr ? "(no entry)" : entry->value;
}

std::string error_of(std::string_view text) {
  try {
    IniFile::parse(text, "f.ini");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(no ConfigError)";
}

TEST(IniFile, HasSectionsAndEntries) {
  const IniFile file = IniFile::parse(
      "# comment\n; another\n[a]\nName = some value # not a comment\nother: x=y\nempty =\n\n[ profile b "
      "]\r\n\tkey=v\r\n\tk2 = v2\r\n",
      "f");
  EXPECT_EQ(value(file, "a", "name"), "some value # not a comment");
  EXPECT_EQ(value(file, "a", "other"), "x=y");
  EXPECT_EQ(value(file, "a", "empty"), "");
  EXPECT_EQ(value(file, "profile b", "key"), "v");
  EXPECT_EQ(value(file, "profile b", "k2"), "v2");
  EXPECT_EQ(value(file, "A", "name"), "(no section)");
  EXPECT_EQ(file.position(*file.find("a")->find("other")), "f, line 5");
  EXPECT_EQ(file.find("profile b")->line, 8);
}

TEST(IniFile, MergesSectionsAndTakesTheLastOfRepeatedEntries) {
  const IniFile file = IniFile::parse("[a]\nx=1\ny=1\n[b]\n[a] # again\nx=2\n", "f");
  EXPECT_EQ(file.sections().size(), 2u);
  EXPECT_EQ(value(file, "a", "x"), "2");
  EXPECT_EQ(value(file, "a", "y"), "1");
}

TEST(IniFile, ReadsNestedBlocks) {
  const IniFile file = IniFile::parse(
      "[profile p]\ns3 =\n  addressing_style = path\n  # remark\n  Endpoint_URL = http://h:1/?a=b\nregion = "
      "r\n",
      "f");
  const IniEntry& s3 = *file.find("profile p")->find("s3");
  EXPECT_EQ(IniFile::nested(s3, "addressing_style"), "path");
  EXPECT_EQ(IniFile::nested(s3, "endpoint_url"), "http://h:1/?a=b");
  EXPECT_EQ(IniFile::nested(s3, "region"), std::nullopt);
  EXPECT_EQ(value(file, "profile p", "region"), "r");
}

TEST(IniFile, ToleratesAByteOrderMarkAndAMissingLastLineEnd) {
  EXPECT_EQ(value(IniFile::parse("\xef\xbb\xbf[a]\nx=1", "f"), "a", "x"), "1");
  EXPECT_TRUE(IniFile::parse("", "f").sections().empty());
}

TEST(IniFile, SaysWhichLineIsWrongAndWhatWasExpected) {
  EXPECT_EQ(error_of("[a]\nx=1\nsecret"),
            "f.ini, line 3: expected NAME = VALUE or [SECTION], found neither '=' nor '['.");
  EXPECT_THAT(error_of("[a"), HasSubstr("line 1: expected a ']'"));
  EXPECT_THAT(error_of("[]"), HasSubstr("expected a section's name"));
  EXPECT_THAT(error_of("[a] b"), HasSubstr("expected nothing after"));
  EXPECT_THAT(error_of("\nx = 1"), HasSubstr("line 2: expected a [SECTION] before"));
  EXPECT_THAT(error_of("[a]\n= 1"), HasSubstr("expected a name before"));
  EXPECT_THAT(error_of(std::string_view("[a]\nx=\0", 7)), HasSubstr("zero byte"));
}

TEST(IniFile, ErrorsQuoteNoLine) { EXPECT_THAT(error_of("[a]\nsesame"), Not(HasSubstr("sesame"))); }

TEST(IniFile, IsLoadedFromAPath) {
  const testing::TemporaryDirectory directory;
  EXPECT_EQ(IniFile::load(directory / "absent"), std::nullopt);
  std::ofstream(directory / "f") << "[a]\nx=1\n";
  EXPECT_EQ(value(*IniFile::load(directory / "f"), "a", "x"), "1");
  const auto failure_of = [&](const std::string& path) -> std::string {
    try {
      IniFile::load(path);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "(no ConfigError)";
  };
  EXPECT_THAT(failure_of(directory.path()), AllOf(HasSubstr(directory.path()), HasSubstr("directory")));
  std::ofstream(directory / "large") << std::string(2 << 20, '#');
  EXPECT_THAT(failure_of(directory / "large"), HasSubstr("larger than 1048576 bytes"));
}

}  // namespace
}  // namespace alnair
