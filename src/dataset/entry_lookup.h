// What the entries of `keys` stand for in a source, found out with few requests: neighbours by one listing of their folder,
// the others one by one, many at once.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/source/object_source.h"

namespace alnair {

// One object, or everything that starts with `prefix`.
struct EntryMatch {
  std::optional<ObjectInfo> object;
  std::string prefix;
  bool guessed = false;  // nothing but the raw prefix matched

  // Where it lies among keys.
  const std::string& text() const { return object ? object->key : prefix; }
};

// One match for each entry; "" is everything. Starts threads for the time of the call if there is much to ask.
// Throws NotFoundError for an entry that matches nothing (naming near ones), and what the source throws.
std::vector<EntryMatch> look_up_entries(ObjectSource& source, std::span<const std::string> entries,
                                        const Interrupt& interrupt);

// 'a', 'b': for messages. Pure.
std::string quoted_list(const std::vector<std::string>& names);

}  // namespace alnair
