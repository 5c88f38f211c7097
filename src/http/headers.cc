#include "http/headers.h"

#include <curl/curl.h>

#include <ctime>

#include "core/ascii.h"

namespace alnair {
namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

std::optional<std::string_view> HttpHeaders::find(std::string_view name) const {
  std::optional<std::string_view> found;
  for_each_line([&](std::string_view line) {
    if (!found && line.size() > name.size() && line[name.size()] == ':' &&
        same_ignoring_case(line.substr(0, name.size()), name))
      found = trimmed(line.substr(name.size() + 1));
  });
  return found;
}

std::optional<std::int64_t> parse_http_date(std::string_view text) {
  const std::time_t time = curl_getdate(std::string(text).c_str(), nullptr);
  if (time == -1) return std::nullopt;
  return time;
}

}  // namespace alnair
