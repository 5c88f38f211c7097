// In what order durable chunks may leave Redis, as a plug-in: recency, frequency, or next use. Pure: no clock, no I/O.
//
// A priority becomes an expiry in the far future, and `volatile-ttl` evicts what expires first. Thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>

#include "alnair/core/hash.h"
#include "alnair/dataset/dataset.h"

namespace alnair {

// The expiry (ms since 1970) of a priority: after the year 2100, so that nothing ever expires.
constexpr std::int64_t expiry_of(std::uint64_t priority) {
  constexpr std::int64_t kFarFutureMs = 4'102'444'800'000;  // 2100-01-01
  return kFarFutureMs + static_cast<std::int64_t>(std::min<std::uint64_t>(priority, std::uint64_t{1} << 52));
}

// What a policy remembers of chunks, by the first 64 bits of their hashes: a chunk that is mistaken for another one goes sooner or later
// than it should. All of it is forgotten where there is no room for more.
template <typename T>
class ChunkMemory {
 public:
  explicit ChunkMemory(std::size_t limit) : limit_(limit) {}
  T& operator[](const ContentHash& hash) {
    if (known_.size() >= limit_ && !known_.contains(first64(hash))) known_.clear();
    return known_[first64(hash)];
  }
  std::optional<T> find(const ContentHash& hash) const {
    const auto found = known_.find(first64(hash));
    return found == known_.end() ? std::nullopt : std::optional<T>(found->second);
  }
  std::size_t limit() const { return limit_; }

 private:
  const std::size_t limit_;
  std::unordered_map<std::uint64_t, T> known_;
};

// The smaller priority goes first; at most 2^52. Those of all policies are about `now_ms` for what was never seen in use, so that
// processes that name different ones do no harm.
class FlushPolicy {
 public:
  static constexpr std::size_t kRemembered = 1u << 20;  // chunks: about 60 MiB

  virtual ~FlushPolicy() = default;
  // These chunks were read.
  virtual void used(std::span<const ContentHash> hashes, std::int64_t now_ms) = 0;
  // These will be read next, in this order; `again`: in place of what was said before, else after it.
  virtual void expect(std::span<const ContentHash> order, bool again) { (void)order, (void)again; }
  virtual bool wants_order() const { return false; }  // expect() makes a difference
  virtual std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const = 0;
};

// What was used longest ago goes first; what was not seen in use counts as used now.
class RecencyPolicy : public FlushPolicy {
 public:
  explicit RecencyPolicy(std::size_t limit = kRemembered) : last_(limit) {}
  void used(std::span<const ContentHash> hashes, std::int64_t now_ms) override {
    const std::lock_guard lock(mutex_);
    for (const ContentHash& hash : hashes) last_[hash] = now_ms;
  }
  std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const override {
    const std::lock_guard lock(mutex_);
    return static_cast<std::uint64_t>(last_.find(hash).value_or(now_ms));
  }

 private:
  mutable std::mutex mutex_;
  ChunkMemory<std::int64_t> last_;
};

// What was used least often goes first; of equals, what was released longest ago.
class FrequencyPolicy : public FlushPolicy {
 public:
  explicit FrequencyPolicy(std::size_t limit = kRemembered) : uses_(limit) {}
  void used(std::span<const ContentHash> hashes, std::int64_t) override {
    const std::lock_guard lock(mutex_);
    for (const ContentHash& hash : hashes) ++uses_[hash];
  }
  std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const override {
    const std::lock_guard lock(mutex_);
    constexpr std::uint64_t kAge = std::uint64_t{1} << 42;  // ms: more than 1970 to 2100
    const std::uint64_t uses = std::min<std::uint64_t>(uses_.find(hash).value_or(0), 1000);
    return uses * kAge + std::min(static_cast<std::uint64_t>(now_ms), kAge - 1);
  }

 private:
  mutable std::mutex mutex_;
  ChunkMemory<std::uint32_t> uses_;
};

// What is needed last goes first (Belady's order), as far as it is known. A job knows what its loop will draw next; what it has read it
// needs again in another epoch, as all others have had their turn. So there are three classes, in this order:
//
//   what was read: the last one first
//   what is neither known to have been read nor to be drawn next: what was released longest ago first
//   what will be drawn next: the last one first
class NextUsePolicy : public FlushPolicy {
 public:
  explicit NextUsePolicy(std::size_t limit = kRemembered) : known_(limit) {}
  void used(std::span<const ContentHash> hashes, std::int64_t now_ms) override {
    const std::lock_guard lock(mutex_);
    for (const ContentHash& hash : hashes) {
      Known& known = known_[hash];
      if (known.position > first_ && to_come_ > 0) --to_come_;
      known = {.read_ms = now_ms};
    }
  }
  // Of an order that is too long to be remembered, the beginning.
  void expect(std::span<const ContentHash> order, bool again) override {
    const std::lock_guard lock(mutex_);
    if (again) first_ = next_, to_come_ = 0;
    for (const ContentHash& hash : order) {
      if (to_come_ >= known_.limit() / 2) return;
      known_[hash] = {.position = ++next_};
      ++to_come_;
    }
  }
  bool wants_order() const override { return true; }
  std::uint64_t priority(const ContentHash& hash, std::int64_t now_ms) const override {
    constexpr std::uint64_t kLate = std::uint64_t{1} << 42;  // ms since 1970: in the year 2109
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(hash);
    if (known && known->position > first_) return 2 * kLate - std::min(known->position, kLate / 2);
    if (known && known->position == 0) return (kLate - std::min(static_cast<std::uint64_t>(known->read_ms), kLate)) / 4;
    return static_cast<std::uint64_t>(now_ms);
  }

 private:
  struct Known {
    std::int64_t read_ms = 0;    // when it was read; or
    std::uint64_t position = 0;  // when it will be, in the order of all that was ever expected; from 1 on
  };
  mutable std::mutex mutex_;
  std::uint64_t first_ = 0, next_ = 0;  // of the order that holds: those behind the first, up to the next
  std::size_t to_come_ = 0;             // of them, those that were not read yet
  ChunkMemory<Known> known_;
};

// As options name it: "recency", "frequency", "next_use"; and back: nullopt, it is none of them.
inline std::string_view name_of(FlushOrder order) {
  return order == FlushOrder::kFrequency ? "frequency" : order == FlushOrder::kNextUse ? "next_use" : "recency";
}
inline std::optional<FlushOrder> flush_order(std::string_view name) {
  if (name == "recency") return FlushOrder::kRecency;
  if (name == "frequency") return FlushOrder::kFrequency;
  if (name == "next_use") return FlushOrder::kNextUse;
  return std::nullopt;
}

inline std::shared_ptr<FlushPolicy> flush_policy(FlushOrder order) {
  switch (order) {
    case FlushOrder::kFrequency:
      return std::make_shared<FrequencyPolicy>();
    case FlushOrder::kNextUse:
      return std::make_shared<NextUsePolicy>();
    case FlushOrder::kRecency:
      break;
  }
  return std::make_shared<RecencyPolicy>();
}

}  // namespace alnair
