// The time that machines agree on, for records and for what other hosts read.
#pragma once

#include <chrono>
#include <cstdint>

namespace alnair {

inline std::int64_t milliseconds_now() {  // since 1970
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace alnair
