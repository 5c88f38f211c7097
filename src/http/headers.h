// The header lines of a request or response, kept in one block of text: requests are made thousands of times
// a second.
//
// Thread safety: as a std::string.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace alnair {

class HttpHeaders {
 public:
  void add(std::string_view name, std::string_view value) {
    text_.append(name).append(": ").append(value).push_back('\0');
  }
  // A whole "Name: value" line, without its line end.
  void add_line(std::string_view line) { text_.append(line).push_back('\0'); }
  void clear() { text_.clear(); }
  void reserve(std::size_t bytes) { text_.reserve(bytes); }

  // The first header of that name (in any case), without surrounding spaces. The view lives until the next
  // change.
  std::optional<std::string_view> find(std::string_view name) const;

  // `visit(line)` for each line in order; `line.data()` ends with a NUL.
  template <typename Visit>
  void for_each_line(Visit visit) const {
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = text_.find('\0', begin);
      visit(std::string_view(text_).substr(begin, end - begin));
      begin = end + 1;
    }
  }

 private:
  std::string text_;  // lines, each ended by a NUL
};

// A Date or Last-Modified header, in seconds since the Unix epoch. nullopt: it is no date.
std::optional<std::int64_t> parse_http_date(std::string_view text);

}  // namespace alnair
