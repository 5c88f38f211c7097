// The chunks in this process's open segments: readable before they are sealed, by this process alone.
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "cache/directory/open_segment.h"

namespace alnair {

class OpenChunks {
 public:
  struct Chunk {
    std::shared_ptr<File> file;  // null: not in an open segment
    std::uint32_t offset = 0, length = 0;
  };

  Chunk find(const ContentHash& hash) const {
    std::lock_guard lock(mutex_);
    const auto found = chunks_.find(hash);
    return found == chunks_.end() ? Chunk{} : found->second;
  }
  void add(const std::shared_ptr<File>& file, std::span<const SegmentEntry> entries) {
    std::lock_guard lock(mutex_);
    for (const SegmentEntry& entry : entries)
      chunks_.insert_or_assign(entry.hash, Chunk{file, entry.offset, entry.length});
  }
  void remove(std::span<const SegmentEntry> entries) {
    std::lock_guard lock(mutex_);
    for (const SegmentEntry& entry : entries) chunks_.erase(entry.hash);
  }
  std::size_t size() const {
    std::lock_guard lock(mutex_);
    return chunks_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<ContentHash, Chunk> chunks_;
};

}  // namespace alnair
