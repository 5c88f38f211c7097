// Directories that only their owner may use: node memory's and cache_dir's.
#pragma once

#include <string>

namespace alnair {

// Throws CacheError if there is something at `path` that this process must not use: a symbolic link, no directory, or
// another user's. What is missing, or cannot be looked at, passes.
void refuse_foreign_directory(const std::string& path);

// Makes `path` (mode 0700, parents too) if it is missing, and checks that it is a directory, no symbolic
// link, and the effective user's; a laxer mode is made 0700. Returns the path without trailing slashes.
// Throws CacheError, which names the directory and what was expected.
std::string open_private_directory(const std::string& path);

}  // namespace alnair
