// A directory tree as an object source: file:///absolute/path. Keys are paths below the root, with '/' separators;
// symbolic links to files inside the root are followed, those that lead out of it are refused.
#pragma once

#include <memory>
#include <string>

#include "alnair/source/object_source.h"

namespace alnair {

// Throws NotFoundError if `root` is not a directory, AccessError if it cannot be read.
std::shared_ptr<ObjectSource> open_local_source(const std::string& root);

}  // namespace alnair
