#include "cache/directory/directory_index.h"

namespace alnair {

ChunkPlaces DirectoryIndex::find(const ContentHash& hash) const {
  ChunkPlaces found;
  std::shared_lock lock(mutex_);
  const auto at = locations_.find(first64(hash));
  if (at == locations_.end()) return found;
  if (const auto segment = table_->get(at->second.slot)) {
    found.places[found.count++] = {at->second.slot, at->second.offset, segment->nonce};
  }
  return found;
}

bool DirectoryIndex::add(const SegmentFooter& footer, std::uint64_t file_bytes, std::int64_t last_used_ns) {
  std::unique_lock lock(mutex_);
  const auto slot =
      table_->add({footer.nonce, footer.dataset, file_bytes, footer.entries.size(), last_used_ns});
  if (!slot) return false;
  for (const SegmentEntry& entry : footer.entries) {
    locations_.insert_or_assign(first64(entry.hash), Location{*slot, entry.offset});
  }
  return true;
}

void DirectoryIndex::remove(std::uint32_t slot) {
  std::unique_lock lock(mutex_);
  table_->remove(slot);
  std::erase_if(locations_, [slot](const auto& entry) { return entry.second.slot == slot; });
}

void DirectoryIndex::erase(const ContentHash& hash, const ChunkPlace& place) {
  std::unique_lock lock(mutex_);
  const auto at = locations_.find(first64(hash));
  if (at != locations_.end() && at->second.slot == place.slot && at->second.offset == place.offset)
    locations_.erase(at);
}

}  // namespace alnair
