// One piece of work over a dataset's chunks, window by window, on the calling thread.
#pragma once

#include <functional>

#include "manager/cache/copies.h"

namespace alnair::manager {

// Tells through `change` how far it is. Throws only what `check` throws, which is called often, and what opening throws.
struct WalkReports {
  std::function<void(const std::function<void(CopyStatus&)>&)> change;
  std::function<void()> check;
};
void walk(DatasetChunks& chunks, const CopyPlan& plan, const WalkReports& reports);

}  // namespace alnair::manager
