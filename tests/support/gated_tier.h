// A MapTier that is slow to write, as long as a test wants it.
#pragma once

#include <condition_variable>
#include <mutex>

#include "support/map_tier.h"

namespace alnair::testing {

// Its puts wait until open().
class GatedTier : public MapTier {
 public:
  using MapTier::MapTier;
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override {
    {
      std::unique_lock lock(gate_mutex_);
      opened_.wait(lock, [&] { return open_; });
    }
    MapTier::put(requests, outcomes);
  }
  void open() {
    {
      const std::lock_guard lock(gate_mutex_);
      open_ = true;
    }
    opened_.notify_all();
  }

 private:
  std::mutex gate_mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

}  // namespace alnair::testing
