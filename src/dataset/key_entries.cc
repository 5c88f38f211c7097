#include "dataset/key_entries.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "alnair/core/error.h"
#include "dataset/entry_lookup.h"
#include "source/prefixes.h"

namespace alnair {
namespace {

constexpr std::size_t kWarnings = 3;  // entries named, of those that were guessed

bool covers(const EntryMatch& one, const EntryMatch& other) {
  return one.object ? other.object && other.object->key == one.object->key : starts_with(other.text(), one.prefix);
}

// In the order of keys, without what another one covers. There a match comes right after the one that covers it and what
// that one covers, too.
std::vector<EntryMatch> disjoint(std::vector<EntryMatch> matches) {
  std::ranges::stable_sort(matches, [](const EntryMatch& a, const EntryMatch& b) {
    return a.text() != b.text() ? a.text() < b.text() : a.object.has_value() < b.object.has_value();
  });
  std::vector<EntryMatch> result;
  for (auto& match : matches)
    if (result.empty() || !covers(result.back(), match)) result.push_back(std::move(match));
  return result;
}

// The part of disjoint `limits` that lies in `match`: itself, if one of them covers it.
std::vector<const EntryMatch*> cut(const EntryMatch& match, const std::vector<EntryMatch>& limits) {
  const auto after = std::ranges::upper_bound(limits, match.text(), {}, &EntryMatch::text);
  // Nothing but the last one at or before it can cover it.
  if (after != limits.begin() && covers(*std::prev(after), match)) return {&match};
  std::vector<const EntryMatch*> inside;
  for (auto it = std::ranges::lower_bound(limits, match.text(), {}, &EntryMatch::text);
       it != limits.end() && covers(match, *it); ++it)
    inside.push_back(&*it);
  return inside;
}

std::vector<EntryMatch> look_up(ObjectSource& source, std::span<const std::string> entries,
                                std::vector<std::string>& warnings, const Interrupt& interrupt) {
  if (entries.empty()) return {EntryMatch()};
  auto matches = look_up_entries(source, entries, interrupt);
  std::size_t guessed = 0;
  for (std::size_t i = 0; i < matches.size(); ++i)
    if (matches[i].guessed && ++guessed <= kWarnings)
      warnings.push_back(fmt::format("'{0}' is neither an object nor a folder in {1}; taken as the raw prefix '{0}*'",
                                     entries[i], source.identity()));
  if (guessed > kWarnings)
    warnings.push_back(fmt::format("{} more entries are taken as raw prefixes, too", guessed - kWarnings));
  return matches;
}

}  // namespace

KeySelection resolve_key_entries(ObjectSource& source, std::span<const std::string> scope,
                                 std::span<const std::string> keys, std::vector<std::string>& warnings,
                                 const Interrupt& interrupt) {
  const auto limits = disjoint(look_up(source, scope, warnings, interrupt));
  auto wanted = look_up(source, keys, warnings, interrupt);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (cut(wanted[i], limits).empty())
      throw NotFoundError(fmt::format("'{}' is outside the datasource, which consists of {}", keys[i],
                                      quoted_list({scope.begin(), scope.end()})));

  KeySelection selection;
  for (const EntryMatch& match : disjoint(std::move(wanted)))
    for (const EntryMatch* part : cut(match, limits)) {
      if (part->object)
        selection.objects.push_back(*part->object);
      else
        selection.prefixes.push_back(part->prefix);
    }
  return selection;
}

}  // namespace alnair
