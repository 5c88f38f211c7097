#include "alnair/core/stats.h"

#include "core/metrics.h"

namespace alnair {

std::map<std::string, double> stats() { return metrics().snapshot(); }

}  // namespace alnair
