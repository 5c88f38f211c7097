// A tier in a map of this process, for tests of what is above the seam. Answers before get() returns.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"

namespace alnair::testing {

class MapTier : public Tier {
 public:
  explicit MapTier(std::string name, std::uint64_t limit = 1u << 30) : name_(std::move(name)), limit_(limit) {}

  std::string_view name() const override { return name_; }
  void get(std::span<const ContentHash> hashes, Found found) override {
    for (std::size_t i = 0; i < hashes.size(); ++i) found(i, peek(hashes[i]));
  }
  std::optional<View> peek(const ContentHash& hash) override {
    const std::lock_guard lock(mutex_);
    const auto it = chunks_.find(hash);
    return it == chunks_.end() ? std::nullopt : std::optional(it->second.bytes);
  }
  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < hashes.size(); ++i) present[i] = chunks_.contains(hashes[i]);
  }
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const bool room = requests[i].transit || used_ + requests[i].bytes.size() <= limit_;
      PutOutcome outcome = PutOutcome::kRefused;
      if (room) {
        const bool fresh = chunks_.emplace(requests[i].hash, requests[i]).second;
        if (fresh && !requests[i].transit) used_ += requests[i].bytes.size();
        outcome = fresh ? PutOutcome::kStored : PutOutcome::kPresent;
      }
      if (!outcomes.empty()) outcomes[i] = outcome;
    }
  }
  void consume(std::span<const ContentHash> hashes) override {
    const std::lock_guard lock(mutex_);
    for (const auto& hash : hashes)
      if (const auto it = chunks_.find(hash); it != chunks_.end() && it->second.transit) chunks_.erase(it);
  }
  void erase(const ContentHash& hash) override {
    const std::lock_guard lock(mutex_);
    chunks_.erase(hash);
  }
  TierUsage usage() const override {
    const std::lock_guard lock(mutex_);
    return {.used_bytes = used_, .limit_bytes = limit_, .chunks = chunks_.size()};
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    chunks_.clear();
    used_ = 0;
  }

 private:
  const std::string name_;
  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  std::map<ContentHash, PutRequest> chunks_;
  std::uint64_t used_ = 0;
};

}  // namespace alnair::testing
