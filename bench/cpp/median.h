#pragma once

#include <algorithm>
#include <vector>

// The upper one of the two in the middle, where their number is even. There must be one, at least.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
