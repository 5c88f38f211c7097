#include "cache/directory/directory_index.h"

namespace alnair {
namespace {

constexpr std::uint64_t kFirstEntries = 1u << 15;  // of a shared index: the same for all processes

}  // namespace

DirectoryIndex::DirectoryIndex(const DirectoryShare& share, std::uint32_t slots, std::uint64_t max_bytes)
    : table_(std::make_unique<SegmentTable>(share.table_path(), slots)),
      shared_(std::make_unique<SharedIndex>(share.index_prefix(), kFirstEntries, max_bytes, share.locks(),
                                            share.index_growth_lock())) {}

ChunkPlaces DirectoryIndex::find(const ContentHash& hash) const {
  ChunkPlaces found;
  const auto add = [&](Location at) {
    if (const auto segment = table_->get(at.segment)) {
      found.places[found.count++] = {at.segment, at.offset, segment->nonce};
    }
    return found.count == found.places.size();
  };
  if (shared_ != nullptr) {
    shared_->find(hash, add);
    return found;
  }
  std::shared_lock lock(mutex_);
  if (const auto at = locations_.find(first64(hash)); at != locations_.end()) add(at->second);
  return found;
}

std::size_t DirectoryIndex::add(const SegmentFooter& footer, std::uint64_t file_bytes,
                                std::int64_t created_ns, std::int64_t last_used_ns) {
  if (table_->knows(footer.nonce)) return 0;  // whoever scanned meanwhile was faster
  const auto slot = table_->reserve(
      {footer.nonce, footer.dataset, file_bytes, footer.entries.size(), created_ns, last_used_ns});
  if (!slot) return footer.entries.size();
  std::size_t lost = 0;
  if (shared_ != nullptr) {
    const auto is_stale = [this](std::uint32_t segment) { return !table_->get(segment); };
    for (const SegmentEntry& entry : footer.entries) {
      lost += !shared_->insert(entry.hash, {*slot, entry.offset}, is_stale);
    }
  } else {
    std::unique_lock lock(mutex_);
    for (const SegmentEntry& entry : footer.entries) {
      locations_.insert_or_assign(first64(entry.hash), Location{*slot, entry.offset});
    }
  }
  // Last: a segment that a killed process entered in part is unknown, and will be entered again.
  table_->publish(*slot);
  return lost;
}

void DirectoryIndex::remove(std::uint32_t slot) {
  table_->remove(slot);
  if (shared_ != nullptr) return;  // its words for the slot are stale now, and are used again
  std::unique_lock lock(mutex_);
  std::erase_if(locations_, [slot](const auto& entry) { return entry.second.segment == slot; });
}

bool DirectoryIndex::erase(const ContentHash& hash, const ChunkPlace& place) {
  if (shared_ != nullptr) return shared_->erase(hash, {place.slot, place.offset});
  std::unique_lock lock(mutex_);
  const auto at = locations_.find(first64(hash));
  if (at == locations_.end() || at->second != Location{place.slot, place.offset}) return false;
  locations_.erase(at);
  return true;
}

}  // namespace alnair
