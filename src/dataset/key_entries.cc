#include "dataset/key_entries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "alnair/core/error.h"

namespace alnair {
namespace {

constexpr std::size_t kHintListing = 1000;  // names looked at for a hint
constexpr std::size_t kHints = 3;

// A resolved entry: one object, or everything that starts with `prefix`.
struct Match {
  std::optional<ObjectInfo> object;
  std::string prefix;

  bool covers(const Match& other) const {
    if (object) return other.object && other.object->key == object->key;
    const std::string& text = other.object ? other.object->key : other.prefix;
    return text.starts_with(prefix);
  }
};

std::string quoted_list(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const auto& name : names) quoted.push_back(fmt::format("'{}'", name));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

[[noreturn]] void throw_no_match(ObjectSource& source, const std::string& entry, const Interrupt& interrupt) {
  std::string_view folder = entry;
  if (folder.ends_with('/')) folder.remove_suffix(1);
  folder = folder.substr(0, folder.rfind('/') + 1);  // rfind's npos + 1 is 0
  auto names = source.names_below(folder, kHintListing, interrupt);
  if (names.empty() && !folder.empty()) names = source.names_below("", kHintListing, interrupt);
  std::string message = fmt::format("no object in {} matches '{}'", source.identity(), entry);
  message += names.empty() ? ": there are no objects at all"
                           : fmt::format("; near it: {}", quoted_list(nearest_names(entry, std::move(names), kHints)));
  throw NotFoundError(message);
}

// HEAD may be forbidden where listing is not; then the entry is no exact key as far as we can tell.
std::optional<ObjectInfo> stat_if_allowed(ObjectSource& source, const std::string& key, const Interrupt& interrupt) {
  try {
    return source.stat(key, interrupt);
  } catch (const AccessError&) {
    return std::nullopt;
  }
}

bool any_below(ObjectSource& source, const std::string& prefix, const Interrupt& interrupt) {
  return !source.names_below(prefix, 1, interrupt).empty();
}

Match resolve(ObjectSource& source, const std::string& entry, std::vector<std::string>& warnings,
              const Interrupt& interrupt) {
  if (entry.empty()) return {std::nullopt, ""};
  if (entry.ends_with('*') || entry.ends_with('/')) {
    const std::string prefix = entry.ends_with('*') ? entry.substr(0, entry.size() - 1) : entry;
    if (!any_below(source, prefix, interrupt)) throw_no_match(source, entry, interrupt);
    return {std::nullopt, prefix};
  }
  if (auto object = stat_if_allowed(source, entry, interrupt)) return {std::move(object), ""};
  if (any_below(source, entry + "/", interrupt)) return {std::nullopt, entry + "/"};
  if (!any_below(source, entry, interrupt)) throw_no_match(source, entry, interrupt);
  warnings.push_back(fmt::format("'{0}' is neither an object nor a folder in {1}; taken as the raw prefix '{0}*'", entry,
                                 source.identity()));
  return {std::nullopt, entry};
}

std::vector<Match> resolve_all(ObjectSource& source, std::span<const std::string> entries,
                               std::vector<std::string>& warnings, const Interrupt& interrupt) {
  std::vector<Match> matches;
  for (const auto& entry : entries) matches.push_back(resolve(source, entry, warnings, interrupt));
  if (entries.empty()) matches.push_back({std::nullopt, ""});
  return matches;
}

}  // namespace

KeySelection resolve_key_entries(ObjectSource& source, std::span<const std::string> scope,
                                 std::span<const std::string> keys, std::vector<std::string>& warnings,
                                 const Interrupt& interrupt) {
  const auto outer = resolve_all(source, scope, warnings, interrupt);
  const auto inner = resolve_all(source, keys, warnings, interrupt);
  std::vector<Match> chosen;
  for (std::size_t i = 0; i < inner.size(); ++i) {
    const std::size_t before = chosen.size();
    for (const Match& limit : outer) {
      if (limit.covers(inner[i]))
        chosen.push_back(inner[i]);
      else if (inner[i].covers(limit))
        chosen.push_back(limit);
    }
    if (chosen.size() == before)
      throw NotFoundError(fmt::format("'{}' is outside the datasource, which consists of {}", keys[i],
                                      quoted_list({scope.begin(), scope.end()})));
  }

  // An entry that another one covers adds nothing; of two equal ones the first stays.
  std::vector<bool> covered(chosen.size());
  for (std::size_t i = 0; i < chosen.size(); ++i)
    for (std::size_t j = 0; j < chosen.size() && !covered[i]; ++j)
      covered[i] = j != i && chosen[j].covers(chosen[i]) && (j < i || !chosen[i].covers(chosen[j]));

  KeySelection selection;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (covered[i]) continue;
    if (chosen[i].object)
      selection.objects.push_back(*std::move(chosen[i].object));
    else
      selection.prefixes.push_back(std::move(chosen[i].prefix));
  }
  return selection;
}

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
