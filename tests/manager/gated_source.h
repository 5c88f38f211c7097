// A source in memory whose listings can be held up, and refused.
//
// Thread safety: that of MapSource; `closed` and `failure` may be set while others list.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "alnair/core/error.h"
#include "support/map_source.h"

namespace alnair::manager {

// Lists when it is let, or is refused.
class GatedSource final : public ::alnair::testing::MapSource {
 public:
  void list(std::span<const std::string> prefixes, const std::function<void(std::vector<ObjectInfo>&&)>& page,
            const Interrupt& interrupt) override {
    while (closed) {
      interrupt();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (failure) throw AccessError("ListObjectsV2 on pets was refused: AccessDenied");
    MapSource::list(prefixes, page, interrupt);
  }
  std::atomic<bool> closed{false}, failure{false};
};

}  // namespace alnair::manager
