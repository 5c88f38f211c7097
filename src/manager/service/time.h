// Time for records and answers.
#pragma once

#include <chrono>
#include <cstdint>

namespace alnair::manager {

// Milliseconds since the Unix epoch.
inline std::int64_t system_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace alnair::manager
