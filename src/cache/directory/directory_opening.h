// What opening a directory tier takes: its folders, what its processes share, and the limits that hold for all of them.
#pragma once

#include <memory>

#include "cache/directory/directory_index.h"
#include "cache/directory/directory_share.h"
#include "cache/directory/directory_tier.h"
#include "cache/directory/segment_files.h"
#include "cache/directory/segment_table.h"

namespace alnair {

// Makes the directory and the folder of `files`, as far as they are missing; waits no longer than a hung file system may take. A fault
// is noted by `files`. Throws CacheError if this user must not use the directory, ConfigError as DirectoryTier says.
void open_directory(const DirectoryOptions& options, SegmentFiles& files);

// Where the node's directory cannot be used, with a warning, this process shares nothing.
std::unique_ptr<DirectoryShare> make_share(const DirectoryOptions& options);
std::unique_ptr<DirectoryIndex> make_index(const DirectoryOptions& options, const DirectoryShare& share);

// The first process records what its options say; those that come while it, or a later one, lives adopt it.
void adopt_limits(DirectoryOptions& options, const DirectoryShare& share, SegmentTable::Shared& recorded);

}  // namespace alnair
