// What somebody who mistyped a name may have meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace alnair {

// Up to `limit` of `names` that are nearest to `wanted` by edit distance. Pure.
std::vector<std::string> nearest_names(std::string_view wanted, std::vector<std::string> names, std::size_t limit);

}  // namespace alnair
