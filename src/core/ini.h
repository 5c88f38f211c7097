// INI files as Python's configparser and the AWS tools read them:
//
//   # a comment, as is a line that begins with ';'; there are none behind values
//   [section]
//   name = value          (or "name: value"; names are in any case)
//   s3 =
//       nested = value    (deeper indented: goes on the value before, after a line feed)
//
// Sections of one name are merged; of a repeated name in one section the last counts.
//
// Errors name the file and the line and say what was expected. They quote no value: it may be a secret.
// Thread safety: immutable, so all methods may be called from any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alnair {

struct IniEntry {
  std::string value;  // trimmed
  int line = 0;       // counted from 1
};

struct IniSection {
  std::string name;                                      // as written, trimmed
  int line = 0;                                          // of its first header
  std::map<std::string, IniEntry, std::less<>> entries;  // by lower-case name

  // nullptr: no entry of that (lower-case) name.
  const IniEntry* find(std::string_view name) const;
};

class IniFile {
 public:
  // `path` is for messages. Throws ConfigError.
  static IniFile parse(std::string_view text, std::string path);

  // nullopt: there is no such file. Throws ConfigError when it is malformed or cannot be read.
  static std::optional<IniFile> load(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<IniSection>& sections() const { return sections_; }  // in order of first appearance
  const IniSection* find(std::string_view section) const;                // nullptr: none of that name

  // "FILE, line N": where an entry stands, for messages about its value.
  std::string position(const IniEntry& entry) const;

  // A nested block's value for `name` (lower case): its entry holds lines "name = value".
  static std::optional<std::string> nested(const IniEntry& entry, std::string_view name);

 private:
  std::string path_;
  std::vector<IniSection> sections_;
};

}  // namespace alnair
