// What the fuzzers share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

namespace alnair::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

// Ends the run with a finding unless `holds`.
inline void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// Takes numbers and texts from the front of an input, for fuzzers that build something of it.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(bytes_of(data, size)) {}
  bool empty() const { return rest_.empty(); }
  std::uint64_t number(std::size_t bytes) {
    std::uint64_t value = 0;
    for (; bytes > 0 && !rest_.empty(); --bytes, rest_ = rest_.subspan(1))
      value = value << 8 | static_cast<std::uint8_t>(rest_.front());
    return value;
  }
  std::span<const std::byte> bytes(std::size_t count) {
    count = count < rest_.size() ? count : rest_.size();
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  std::string_view text(std::size_t count) {
    const auto taken = bytes(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace alnair::fuzz
