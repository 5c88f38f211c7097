// A dataset's side of the tiered cache, over a MapSource, and what gathers the answers.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cache/tiered/tiered_cache.h"
#include "support/map_source.h"

namespace alnair::testing {

// A dataset whose object i is "<i>", with a content long enough to tell objects apart.
class Origin : public ChunkOrigin {
 public:
  explicit Origin(std::shared_ptr<MapSource> source) : source_(std::move(source)) {}

  static std::string content(std::uint64_t index) { return "content of " + std::to_string(index); }

  DatasetTag tag() const override { return 1; }
  bool fits_lower_tiers() const override { return fits_; }
  void set_fits_lower_tiers(bool fits) { fits_ = fits; }
  ObjectSource& source() override { return *source_; }
  ObjectInfo object(std::uint64_t index) const override { return *source_->stat(std::to_string(index), {}); }
  std::optional<ContentHash> known_hash(const ChunkRead& chunk) const override {
    const std::lock_guard lock(mutex_);
    const auto it = hashes_.find(chunk.ordinal);
    return it == hashes_.end() ? std::nullopt : std::optional(it->second);
  }
  void find_hashes(std::span<const ChunkRead> chunks, std::span<std::optional<ContentHash>> hashes) override {
    const std::lock_guard lock(mutex_);
    asked_ += chunks.size();
    for (std::size_t i = 0; i < chunks.size(); ++i)
      if (const auto it = catalog_.find(chunks[i].ordinal); it != catalog_.end())
        hashes[i] = hashes_[chunks[i].ordinal] = it->second;
  }
  void learned_hashes(std::span<const HashedChunk> chunks) override {
    const std::lock_guard lock(mutex_);
    for (const HashedChunk& chunk : chunks) {
      hashes_[chunk.read.ordinal] = chunk.hash;
      ++arrivals_[chunk.read.ordinal];
    }
  }
  void learned_hash(const ChunkRead& chunk, const ContentHash& hash) {
    const HashedChunk learned{chunk, hash};
    learned_hashes({&learned, 1});
  }

  std::uint16_t arrivals(const ChunkRead& chunk) const override {
    const std::lock_guard lock(mutex_);
    const auto it = arrivals_.find(chunk.ordinal);
    return it == arrivals_.end() ? 0 : it->second;
  }

  // Forgets what the node knows; the catalog remembers it.
  void begin_new_life() {
    const std::lock_guard lock(mutex_);
    catalog_ = std::exchange(hashes_, {});
  }
  std::uint64_t asked() const {  // chunks that the catalog was asked for
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  const std::shared_ptr<MapSource> source_;
  std::atomic<bool> fits_{true};
  mutable std::mutex mutex_;
  std::map<std::uint64_t, ContentHash> hashes_, catalog_;
  std::map<std::uint64_t, std::uint16_t> arrivals_;
  std::uint64_t asked_ = 0;
};

inline ChunkRead chunk(std::uint64_t index, std::uint64_t offset = 0, std::uint64_t length = 0) {
  Hasher hasher;
  hasher.update_field(index);
  hasher.update_field(offset);
  const ContentHash hash = hasher.finish();
  ChunkRead read;
  std::copy_n(hash.bytes.begin(), read.id.bytes.size(), read.id.bytes.begin());
  read.object_index = index;
  read.ordinal = index * 1000 + offset;
  read.offset = offset;
  read.length = length > 0 ? length : Origin::content(index).size();
  return read;
}

// Gathers what fetch() reports.
class Results {
 public:
  explicit Results(std::size_t count) : views_(count), errors_(count), left_(count) {}

  static TieredCache::Done into(const std::shared_ptr<Results>& results) {
    return [results](std::size_t i, View bytes, std::exception_ptr error) {
      const std::lock_guard lock(results->mutex_);
      results->views_[i] = std::move(bytes);
      results->errors_[i] = std::move(error);
      if (--results->left_ == 0) results->changed_.notify_all();
    };
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return left_ == 0; });
  }
  std::string text(std::size_t i) {
    if (!wait()) return "timed out";
    if (errors_[i]) {
      try {
        std::rethrow_exception(errors_[i]);
      } catch (const std::exception& error) {
        return std::string("error: ") + error.what();
      }
    }
    return std::string(views_[i].text());
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<View> views_;
  std::vector<std::exception_ptr> errors_;
  std::size_t left_;
};

}  // namespace alnair::testing
