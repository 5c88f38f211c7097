// Randomness for names that must differ on all hosts.
#pragma once

#include <cstdint>
#include <random>

namespace alnair {

inline std::uint64_t random_word() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace alnair
