// What a directory's files take, the limit, and which segment goes when room is needed.
//
// Files are counted as they are, each time a segment is opened: no counter that a killed process could leave
// wrong. An open segment counts with the size that it reserved. Blocks; used under the directory's lock, by
// one thread.
#pragma once

#include "alnair/dataset/dataset.h"
#include "cache/directory/directory_index.h"
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

  // `limit_bytes` 0: a tenth of the disk stays free.
  DirectorySpace(const DirectoryShare& share, SegmentFiles& files, DirectoryIndex& index,
                 std::uint64_t limit_bytes, EvictionPolicy policy)
      : share_(share),
        files_(files),
        index_(index),
        limit_bytes_(limit_bytes),
        policy_(directory_policy(policy)) {}

  struct Account {
    std::uint64_t used_bytes = 0;
    std::uint64_t limit_bytes = 0;
  };
  // nullopt: the directory cannot be read (a fault was counted).
  std::optional<Account> account();

  // Whether `bytes` more fit as it is.
  bool has_room(std::uint64_t bytes);

  // Evicts until `bytes` more, for this dataset, fit. false: the policy gives no more.
  bool make_room(std::uint64_t bytes, DatasetTag requester);

 private:
  std::optional<std::pair<std::uint32_t, KnownSegment>> victim(DatasetTag requester) const;

  const DirectoryShare& share_;
  SegmentFiles& files_;
  DirectoryIndex& index_;
  const std::uint64_t limit_bytes_;
  const Policy& policy_;
};

}  // namespace alnair
