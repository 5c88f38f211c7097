// Raw key prefixes. Pure; thread-safe.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace alnair {

inline bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// The prefixes, sorted, without those that another one covers: no key starts with two of what is left.
inline std::vector<std::string> disjoint_prefixes(std::span<const std::string> prefixes) {
  std::vector<std::string> sorted(prefixes.begin(), prefixes.end());
  std::sort(sorted.begin(), sorted.end());  // a prefix comes right before what it covers
  std::vector<std::string> result;
  for (std::string& prefix : sorted)
    if (result.empty() || !starts_with(prefix, result.back())) result.push_back(std::move(prefix));
  return result;
}

}  // namespace alnair
