// The reply to INFO. Pure.
#pragma once

#include <algorithm>
#include <string_view>

namespace alnair::redis {

// The value of "name:value"; empty: it is not there.
inline std::string_view info_field(std::string_view info, std::string_view name) {
  for (std::size_t begin = 0; begin < info.size();) {
    const std::size_t end = std::min(info.find('\n', begin), info.size());
    std::string_view line = info.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) return line.substr(name.size() + 1);
    begin = end + 1;
  }
  return {};
}

}  // namespace alnair::redis
