// Chunks that came before they were read and found no room in node memory, because its segments are held by views or by other
// readers' chunks, or that nobody else is there to find in it: kept in this process until they are read, else they would be fetched
// twice. The oldest go first.
//
// Thread safety: all methods may be called from any thread.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "alnair/core/bytes.h"
#include "alnair/core/hash.h"

namespace alnair {

class Overflow {
 public:
  explicit Overflow(std::uint64_t limit_bytes) : limit_(limit_bytes) {}

  void add(const ContentHash& hash, View bytes) {
    if (bytes.size() > limit_) return;
    const std::lock_guard lock(mutex_);
    insert(hash, std::move(bytes));
    while (bytes_ > limit_) erase(chunks_.front().first);
  }

  // false: others would have to go for it.
  bool add_if_room(const ContentHash& hash, const View& bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes_ + bytes.size() > limit_) return false;
    insert(hash, bytes);
    return true;
  }

  std::optional<View> find(const ContentHash& hash) const {
    const std::lock_guard lock(mutex_);
    const auto it = places_.find(hash);
    return it == places_.end() ? std::nullopt : std::optional(it->second->second);
  }

  void drop(std::span<const ContentHash> hashes) {
    const std::lock_guard lock(mutex_);
    if (chunks_.empty()) return;
    for (const ContentHash& hash : hashes) erase(hash);
  }

 private:
  using Chunks = std::list<std::pair<ContentHash, View>>;

  void insert(const ContentHash& hash, View bytes) {
    if (places_.contains(hash)) return;
    bytes_ += bytes.size();
    chunks_.emplace_back(hash, std::move(bytes));
    places_.emplace(hash, std::prev(chunks_.end()));
  }

  void erase(ContentHash hash) {
    const auto it = places_.find(hash);
    if (it == places_.end()) return;
    bytes_ -= it->second->second.size();
    chunks_.erase(it->second);
    places_.erase(it);
  }

  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  Chunks chunks_;  // the oldest first
  std::unordered_map<ContentHash, Chunks::iterator> places_;
  std::uint64_t bytes_ = 0;
};

}  // namespace alnair
