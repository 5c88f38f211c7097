// The directories that all nodes share (NFS), as one tier: each chunk lies in one of them, chosen by its hash.
//
// In each directory every namespace and domain has a folder of its own. Thread-safe, as every tier is.
#pragma once

#include <string>
#include <vector>

#include "cache/directory/directory_tier.h"

namespace alnair {

struct SpillOptions {
  std::vector<std::string> directories;  // absolute; all hosts name them alike. A chunk stays put when others come or go
  std::string key_namespace = "alnair";
  std::string domain = "default";
  std::uint32_t mode = 0700;      // of what is made in them: 0700, or 02770 to share with a group
  std::string node_directory;     // as DirectoryOptions has it
  std::uint64_t limit_bytes = 0;  // of this namespace and domain, in each directory; 0: a tenth of the disk stays free
  EvictionPolicy eviction = EvictionPolicy::kNone;
  std::function<bool(std::span<const ContentHash>)> before_drop;  // as DirectoryOptions has it

  std::chrono::seconds durability{0};         // as DirectoryOptions has them
  std::chrono::milliseconds tend_after{0};

  std::chrono::milliseconds rescan_after{2'000};   // how soon other hosts' chunks are found, at best
  std::chrono::milliseconds relist_after{30'000};  // and at worst, where a file system's times mislead
  std::chrono::milliseconds stall_limit{10'000};
  std::shared_ptr<FileSystem> files;  // null: the real one
};

// Throws ConfigError for a directory that cannot be meant (relative; no directory; missing with its parent), for one that is
// named twice, and for a mode without rwx for the owner. What else is wrong with a directory makes it miss.
std::shared_ptr<DurableTier> open_spill(const SpillOptions& options);

}  // namespace alnair
