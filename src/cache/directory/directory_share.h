// What the processes of a node share about one directory: locks, the index, the recorded limit. It lies in
// node memory's directory, because no lock on a network file system is relied on, and memory there is mapped
// without fear.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "alnair/cache/tier.h"
#include "cache/directory/segment_format.h"
#include "cache/lock_file.h"

namespace alnair {

class DirectoryShare {
 public:
  // Shares nothing: the locks exclude the threads of this process, or nobody. Used where node memory is not
  // to be had.
  DirectoryShare() = default;
  // `directory` is an absolute path. Throws CacheError.
  DirectoryShare(const std::string& node_directory, const std::string& directory);

  bool shared() const { return locks_ != nullptr; }
  LockFile& locks() const { return *locks_; }
  std::string table_path() const { return prefix_ + "segments"; }
  std::string index_prefix() const { return prefix_ + "index"; }
  std::uint64_t index_growth_lock() const { return offset(2); }

  // Held by who changes the set of segments, or makes room. Empty-handed after the timeout (the holder's file
  // system hangs): do without the change. Without sharing it is granted at once.
  class Change {
   public:
    Change(bool granted, LockFile::Guard guard) : granted_(granted), guard_(std::move(guard)) {}
    explicit operator bool() const { return granted_; }

   private:
    bool granted_;
    LockFile::Guard guard_;
  };
  Change change(std::chrono::milliseconds timeout = std::chrono::seconds(5)) const;

  // Held by who merges segments; false: someone else does.
  Change merging() const;

  // Whether another process, or another tier of this one, uses the directory; and joining them.
  bool in_use() const { return shared() && locks_->is_locked(offset(3)); }
  LockFile::Guard join() const { return shared() ? locks_->try_shared(offset(3)) : LockFile::Guard(); }

  // The lock that says that an open segment's writer lives.
  LockFile::Guard own(const SegmentNonce& nonce) const;
  bool is_owned(const SegmentNonce& nonce) const;

  void hold(DatasetTag dataset);
  void release(DatasetTag dataset);
  bool is_held(DatasetTag dataset) const;

 private:
  static std::uint64_t owner_offset(const SegmentNonce& nonce);
  std::uint64_t offset(std::uint64_t purpose) const {
    return lock_offset(LockPurpose::kDirectoryTier, directory_id_ << 8 | purpose);
  }

  LockFile* locks_ = nullptr;
  std::string prefix_;
  std::uint64_t directory_id_ = 0;  // 32 bits
  mutable std::mutex mutex_;
  std::multiset<DatasetTag> held_;  // by this process, where nothing is shared
};

}  // namespace alnair
