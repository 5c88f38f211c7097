// Which keys of a source make up a dataset.
//
// An entry means the object of exactly that key, else the keys under "entry/"; an entry that ends in '/' or '*' is a raw
// prefix; an entry that matches nothing is tried as a raw prefix, with a warning. Overlaps count once.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "alnair/source/object_source.h"

namespace alnair {

// What to list: exact objects, and raw prefixes none of which covers another or an object. Both in bytewise order.
struct KeySelection {
  std::vector<ObjectInfo> objects;
  std::vector<std::string> prefixes;
};

// Resolves `scope` (what the datasource consists of) and `keys` (what narrows it); an empty list is everything.
// Appends to `warnings`. Throws NotFoundError for an entry that matches nothing (naming near ones), and for keys
// outside the scope. Takes n log n for n entries, and requests as look_up_entries() does.
KeySelection resolve_key_entries(ObjectSource& source, std::span<const std::string> scope,
                                 std::span<const std::string> keys, std::vector<std::string>& warnings,
                                 const Interrupt& interrupt);

}  // namespace alnair
