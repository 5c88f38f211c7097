#include "core/ini.h"

#include <fmt/format.h>

#include <algorithm>

#include "alnair/core/error.h"
#include "core/read_file.h"

namespace alnair {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

std::size_t indentation(std::string_view line) {
  std::size_t count = 0;
  while (count < line.size() && is_blank(line[count])) ++count;
  return count;
}

// Takes the next line, without its end, from the front of `text`.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

}  // namespace

const IniEntry* IniSection::find(std::string_view entry_name) const {
  const auto found = entries.find(entry_name);
  return found == entries.end() ? nullptr : &found->second;
}

const IniSection* IniFile::find(std::string_view section) const {
  const auto found = std::find_if(sections_.begin(), sections_.end(),
                                  [&](const IniSection& candidate) { return candidate.name == section; });
  return found == sections_.end() ? nullptr : &*found;
}

std::string IniFile::position(const IniEntry& entry) const {
  return fmt::format("{}, line {}", path_, entry.line);
}

IniFile IniFile::parse(std::string_view text, std::string path) {
  IniFile file;
  file.path_ = std::move(path);
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) text.remove_prefix(kByteOrderMark.size());

  std::map<std::string, std::size_t, std::less<>> index;  // of sections_, by name
  std::optional<std::size_t> section;
  IniEntry* entry = nullptr;  // what a deeper indented line goes on
  std::size_t entry_indentation = 0;
  int number = 0;
  const auto fail = [&](std::string_view what) {
    throw ConfigError(fmt::format("{}, line {}: {}.", file.path_, number, what));
  };
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    const std::string_view content = trimmed(line);
    ++number;
    if (content.find('\0') != std::string_view::npos) fail("expected text, found a zero byte");
    if (content.empty() || content.front() == '#' || content.front() == ';') continue;

    if (entry != nullptr && indentation(line) > entry_indentation) {
      entry->value.append("\n").append(content);
      continue;
    }
    if (content.front() == '[') {
      const std::size_t end = content.find(']');
      if (end == std::string_view::npos) fail("expected a ']' at the end of the section's name");
      const std::string_view name = trimmed(content.substr(1, end - 1));
      if (name.empty()) fail("expected a section's name between '[' and ']'");
      const std::string_view rest = trimmed(content.substr(end + 1));
      if (!rest.empty() && rest.front() != '#' && rest.front() != ';')
        fail("expected nothing after the section's ']'");
      const auto [found, is_new] = index.try_emplace(std::string(name), file.sections_.size());
      if (is_new) file.sections_.push_back({std::string(name), number, {}});
      section = found->second;
      entry = nullptr;
      continue;
    }
    const std::size_t delimiter = content.find_first_of("=:");
    if (delimiter == std::string_view::npos)
      fail("expected NAME = VALUE or [SECTION], found neither '=' nor '['");
    const std::string name = lower(trimmed(content.substr(0, delimiter)));
    if (name.empty()) fail("expected a name before the '='");
    if (!section) fail("expected a [SECTION] before the first NAME = VALUE");
    entry = &file.sections_[*section].entries[name];
    *entry = {std::string(trimmed(content.substr(delimiter + 1))), number};
    entry_indentation = indentation(line);
  }
  return file;
}

std::optional<IniFile> IniFile::load(const std::string& path) {
  const auto text = read_small_file(path);
  if (!text) return std::nullopt;
  return parse(*text, path);
}

std::optional<std::string> IniFile::nested(const IniEntry& entry, std::string_view name) {
  std::optional<std::string> value;
  std::string_view rest = entry.value;
  while (!rest.empty()) {
    const std::string_view line = take_line(rest);
    const std::size_t delimiter = line.find('=');
    if (delimiter != std::string_view::npos && lower(trimmed(line.substr(0, delimiter))) == name)
      value = trimmed(line.substr(delimiter + 1));
  }
  return value;
}

}  // namespace alnair
