// An object source in memory, for tests of what is above the seam: counts what it is asked, fails and waits on demand.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "alnair/core/error.h"
#include "alnair/source/object_source.h"

namespace alnair::testing {

class MapSource : public ObjectSource {
 public:
  explicit MapSource(std::string identity = "map://test") : identity_(std::move(identity)) {}

  void put(const std::string& key, const std::string& bytes) { put(key, bytes, std::to_string(++version_)); }
  void put(const std::string& key, const std::string& bytes, const std::string& etag) {
    const std::lock_guard lock(mutex_);
    objects_[key] = {bytes, etag};
  }
  void remove(const std::string& key) {
    const std::lock_guard lock(mutex_);
    objects_.erase(key);
  }
  // Reads wait until release() while held.
  void hold() { held_ = true; }
  void release() {
    {
      const std::lock_guard lock(mutex_);
      held_ = false;
    }
    released_.notify_all();
  }
  void fail_reads(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }

  int reads() const { return reads_; }
  std::uint64_t bytes_read() const { return bytes_read_; }
  int lists() const { return lists_; }
  int questions() const { return questions_; }  // stat() and names_below()

  std::string identity() const override { return identity_; }

  void list(std::span<const std::string> prefixes, const std::function<void(std::vector<ObjectInfo>&&)>& page,
            const Interrupt&) override {
    ++lists_;
    std::set<std::string> keys;
    std::vector<ObjectInfo> objects;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& prefix : prefixes)
        for (auto it = objects_.lower_bound(prefix); it != objects_.end() && it->first.starts_with(prefix); ++it)
          if (keys.insert(it->first).second) objects.push_back(info(*it));
    }
    if (!objects.empty()) page(std::move(objects));
  }

  std::vector<std::string> names_below(std::string_view prefix, std::size_t limit, const Interrupt&) override {
    ++questions_;
    const std::lock_guard lock(mutex_);
    std::set<std::string> names;
    for (auto it = objects_.lower_bound(std::string(prefix));
         it != objects_.end() && it->first.starts_with(prefix) && names.size() < limit; ++it)
      names.insert(it->first.substr(0, std::min(it->first.size(), it->first.find('/', prefix.size())) +
                                           (it->first.find('/', prefix.size()) == std::string::npos ? 0 : 1)));
    return {names.begin(), names.end()};
  }

  std::optional<ObjectInfo> stat(std::string_view key, const Interrupt&) override {
    ++questions_;
    const std::lock_guard lock(mutex_);
    const auto it = objects_.find(std::string(key));
    return it == objects_.end() ? std::nullopt : std::optional(info(*it));
  }

  std::shared_ptr<PendingRead> read(ReadRequest request, ReadDone done) override {
    ++reads_;
    bytes_read_ += request.length;
    std::thread([this, request = std::move(request), done = std::move(done)] {
      ReadResult result;
      {
        std::unique_lock lock(mutex_);
        released_.wait(lock, [&] { return !held_; });
        const auto it = objects_.find(request.object.key);
        if (error_) {
          result.error = error_;
        } else if (it == objects_.end()) {
          result.error = std::make_exception_ptr(NotFoundError("no object '" + request.object.key + "'"));
        } else if (it->second.etag != request.object.etag) {
          result.error = std::make_exception_ptr(ChangedError("'" + request.object.key + "' changed"));
        } else {
          Buffer buffer(request.length);
          std::memcpy(buffer.data(), it->second.bytes.data() + request.offset, request.length);
          result.bytes = std::move(buffer).freeze();
        }
      }
      done(std::move(result));
    }).detach();
    struct Nothing : PendingRead {
      void cancel() override {}
    };
    return std::make_shared<Nothing>();
  }

 private:
  struct Object {
    std::string bytes;
    std::string etag;
  };
  static ObjectInfo info(const std::pair<const std::string, Object>& entry) {
    return {.key = entry.first, .size = entry.second.bytes.size(), .etag = entry.second.etag, .last_modified_ms = 1};
  }

  const std::string identity_;
  mutable std::mutex mutex_;
  std::condition_variable released_;
  std::map<std::string, Object> objects_;
  std::exception_ptr error_;
  std::atomic<bool> held_{false};
  std::atomic<int> reads_{0}, lists_{0}, questions_{0};
  std::atomic<std::uint64_t> bytes_read_{0};
  std::atomic<int> version_{0};
};

}  // namespace alnair::testing
