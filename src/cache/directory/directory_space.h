// What a directory's files take, the limit, and which segment goes when room is needed.
//
// Files are counted as they are, each time a segment is opened: no counter that a killed process could leave
// wrong. An open segment counts with the size that it reserved. Blocks; used under the directory's lock, by
// one thread.
//
// How a segment leaves a directory on whose durability somebody relies (Redis may evict what is here, DirectoryOptions::
// before_drop), so that this process may die between any two steps, and others may find chunks durable at any time:
//
//  1. Rename "<nonce>.segment" to "<nonce>.leaving". Who looks from now on (durable()) does not find its chunks here. Who relied
//     on an earlier look, looks again after it has done so, and takes it back.
//  2. Tell who relies on its chunks; they no longer do. If they cannot be told, rename it back.
//  3. Remove the file.
//
// After a death before step 3 the segment is whole. Whoever has seen its name for a minute renames it back.
#pragma once

#include <algorithm>
#include <chrono>
#include <set>
#include <unordered_set>

#include "alnair/dataset/dataset.h"
#include "cache/directory/directory_index.h"
#include "cache/directory/directory_tier.h"
#include "cache/directory/segment_files.h"
#include "cache/policy.h"

namespace alnair {

class DirectorySpace {
 public:
  // s3fifo would write each surviving chunk once more, which costs a disk more than the hits it saves: lru in
  // its place.
  static const Policy& directory_policy(EvictionPolicy policy) {
    return policy_for(policy == EvictionPolicy::kS3Fifo ? EvictionPolicy::kLru : policy);
  }

  DirectorySpace(const DirectoryShare& share, SegmentFiles& files, DirectoryIndex& index,
                 const DirectoryOptions& options)
      : share_(share),
        files_(files),
        index_(index),
        options_(options),
        policy_(directory_policy(options.eviction)) {}

  struct Account {
    std::uint64_t used_bytes = 0;
    std::uint64_t limit_bytes = 0;
    bool relied_on = false;          // kReliedOnFile is there
    std::set<DatasetTag> named = {};  // datasets of jobs that live, on whatever host
  };
  // nullopt: the directory cannot be read (a fault was counted).
  std::optional<Account> account();

  // Whether so much room is left, by a look within the last second, that whatever other hosts have written since leaves enough for
  // `bytes`.
  bool has_ample_room(std::uint64_t bytes) const;
  // `bytes` were taken since that look.
  void took(std::uint64_t bytes) { ample_bytes_ -= std::min(ample_bytes_, bytes); }

  // Whether `bytes` more fit as it is.
  bool has_room(std::uint64_t bytes);

  // Evicts until `bytes` more, for this dataset, fit. false: the policy gives no more.
  bool make_room(std::uint64_t bytes, DatasetTag requester);

  // Removes a segment from the directory; those who rely on its chunks are told, but for those that are `elsewhere`. false: it stays.
  bool drop(const SegmentNonce& segment, const std::unordered_set<ContentHash>& elsewhere = {});

 private:
  std::optional<std::pair<std::uint32_t, KnownSegment>> victim(DatasetTag requester, const std::set<DatasetTag>& named) const;
  int remove(const std::string& name);  // one that is gone is success

  const DirectoryShare& share_;
  SegmentFiles& files_;
  DirectoryIndex& index_;
  const DirectoryOptions& options_;
  const Policy& policy_;
  std::uint64_t ample_bytes_ = 0;  // that were free at the last look, less a margin and what was taken since
  std::chrono::steady_clock::time_point looked_{};
};

}  // namespace alnair
