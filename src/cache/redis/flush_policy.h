// In what order durable chunks may leave Redis, as a plug-in: recency, frequency, or next use. Pure: no clock, no I/O.
//
// A priority becomes an expiry in the far future, and `volatile-ttl` evicts what expires first. Thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "alnair/core/hash.h"

namespace alnair {

// In what order durable chunks may go: the smaller number first. 0 to 2^52.
using FlushPriority = std::function<std::uint64_t(const ContentHash& hash, std::int64_t now_ms)>;

// The expiry (ms since 1970) of a priority: after the year 2100, so that nothing ever expires.
constexpr std::int64_t expiry_of(std::uint64_t priority) {
  constexpr std::int64_t kFarFutureMs = 4'102'444'800'000;  // 2100-01-01
  return kFarFutureMs + static_cast<std::int64_t>(std::min<std::uint64_t>(priority, std::uint64_t{1} << 52));
}

class FlushPolicy {
 public:
  virtual ~FlushPolicy() = default;
  // These chunks were read. What was told of most others is forgotten where there is no room for more.
  virtual void used(std::span<const ContentHash> hashes, std::int64_t now_ms) = 0;
  virtual std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const = 0;
};

// What was used longest ago goes first; what was not seen in use counts as used now.
class RecencyPolicy : public FlushPolicy {
 public:
  explicit RecencyPolicy(std::size_t limit = 1u << 22) : limit_(limit) {}
  void used(std::span<const ContentHash> hashes, std::int64_t now_ms) override {
    const std::lock_guard lock(mutex_);
    if (last_.size() + hashes.size() > limit_) last_.clear();
    for (const ContentHash& hash : hashes) last_[hash] = now_ms;
  }
  std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const override {
    const std::lock_guard lock(mutex_);
    const auto found = last_.find(hash);
    return static_cast<std::uint64_t>(found == last_.end() ? now_ms : found->second);
  }

 private:
  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::unordered_map<ContentHash, std::int64_t> last_;
};

// What was used least often goes first; of equals, what was released longest ago.
class FrequencyPolicy : public FlushPolicy {
 public:
  explicit FrequencyPolicy(std::size_t limit = 1u << 22) : limit_(limit) {}
  void used(std::span<const ContentHash> hashes, std::int64_t) override {
    const std::lock_guard lock(mutex_);
    if (uses_.size() + hashes.size() > limit_) uses_.clear();
    for (const ContentHash& hash : hashes) ++uses_[hash];
  }
  std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const override {
    const std::lock_guard lock(mutex_);
    const auto found = uses_.find(hash);
    const std::uint64_t uses = found == uses_.end() ? 0 : std::min<std::uint64_t>(found->second, (1u << 20) - 1);
    return uses << 32 | (static_cast<std::uint64_t>(now_ms / 1000) & 0xffffffff);
  }

 private:
  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::unordered_map<ContentHash, std::uint32_t> uses_;
};

// What is needed last goes first (Belady's order), as far as the order is known: what is in none of it goes before all.
class NextUsePolicy : public FlushPolicy {
 public:
  // The uses that come after those that are known: at most 2^52, in all.
  void extend(std::span<const ContentHash> order) {
    const std::lock_guard lock(mutex_);
    for (const ContentHash& hash : order) next_[hash].push_back(end_++);
  }
  // Each use is the next one of its chunk.
  void used(std::span<const ContentHash> hashes, std::int64_t) override {
    const std::lock_guard lock(mutex_);
    for (const ContentHash& hash : hashes) {
      const auto found = next_.find(hash);
      if (found == next_.end()) continue;
      found->second.erase(found->second.begin());
      if (found->second.empty()) next_.erase(found);
    }
  }
  std::uint64_t priority(const ContentHash& hash, std::int64_t) const override {
    const std::lock_guard lock(mutex_);
    const auto found = next_.find(hash);
    return found == next_.end() ? 0 : (std::uint64_t{1} << 52) - found->second.front();
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t end_ = 0;
  std::unordered_map<ContentHash, std::vector<std::uint64_t>> next_;  // positions, ascending
};

}  // namespace alnair
