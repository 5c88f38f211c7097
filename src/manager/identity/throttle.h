// Slows whoever guesses passwords: after some failures in a row, further attempts must wait, twice as long each time.
//
// Bounded: beyond `capacity` keys those that failed longest ago are forgotten. Thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace alnair::manager {

class Throttle {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Throttle(int free_failures, std::chrono::seconds longest, std::size_t capacity)
      : free_failures_(free_failures), longest_(longest), capacity_(capacity) {}

  // How long `key` must still wait; zero: it may try.
  std::chrono::milliseconds wait(const std::string& key, Time now) const {
    const std::lock_guard lock(mutex_);
    const auto found = failures_.find(key);
    if (found == failures_.end() || found->second.count <= free_failures_) return {};
    const int doublings = std::min(found->second.count - free_failures_ - 1, 20);
    const auto delay = std::min(std::chrono::seconds(1ll << doublings), longest_);
    return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(found->second.last + delay - now),
                    std::chrono::milliseconds(0));
  }

  void failed(const std::string& key, Time now) {
    const std::lock_guard lock(mutex_);
    Failures& failures = failures_[key];
    if (now - failures.last > 2 * longest_) failures.count = 0;  // long ago
    ++failures.count;
    failures.last = now;
    if (failures_.size() > capacity_)
      failures_.erase(std::min_element(failures_.begin(), failures_.end(),
                                       [](const auto& a, const auto& b) { return a.second.last < b.second.last; }));
  }

  void succeeded(const std::string& key) {
    const std::lock_guard lock(mutex_);
    failures_.erase(key);
  }

 private:
  struct Failures {
    int count = 0;
    Time last{};
  };
  const int free_failures_;
  const std::chrono::seconds longest_;
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::map<std::string, Failures> failures_;
};

}  // namespace alnair::manager
