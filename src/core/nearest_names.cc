#include "core/nearest_names.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace alnair {

std::vector<std::string> nearest_names(std::string_view wanted, std::vector<std::string> names, std::size_t limit) {
  const auto distance = [wanted](std::string_view name) {
    std::vector<std::size_t> row(name.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t j = 0; j < name.size(); ++j) {
        const std::size_t substituted = diagonal + (wanted[i] == name[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({substituted, row[j] + 1, row[j + 1] + 1});
      }
    }
    return row.back();
  };
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (auto& name : names) {
    const std::size_t rank = distance(name);
    ranked.emplace_back(rank, std::move(name));
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nearest;
  for (std::size_t i = 0; i < std::min(limit, ranked.size()); ++i) nearest.push_back(std::move(ranked[i].second));
  return nearest;
}

}  // namespace alnair
