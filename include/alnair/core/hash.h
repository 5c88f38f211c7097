// Names: 256-bit content hashes, 128-bit chunk ids, and a fast checksum.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace alnair {

// BLAKE3-256 of a chunk's bytes: the chunk's only name in every tier.
struct ContentHash {
  std::array<std::uint8_t, 32> bytes{};
  auto operator<=>(const ContentHash&) const = default;
  std::string hex() const;
  static std::optional<ContentHash> from_hex(std::string_view text);
};

// Names a chunk by where it comes from: the first 128 bits of BLAKE3 over source identity, key, version and chunk
// position. Locks, leases and the index to content hashes are keyed by it, because the hash of bytes that nobody has
// read yet is unknown.
struct ChunkId {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const ChunkId&) const = default;
  std::string hex() const;
};

// Both are uniformly distributed, so any eight bytes are a good hash-table hash.
inline std::uint64_t first64(const ContentHash& hash) {
  std::uint64_t word;
  std::memcpy(&word, hash.bytes.data(), sizeof word);
  return word;
}
inline std::uint64_t first64(const ChunkId& id) {
  std::uint64_t word;
  std::memcpy(&word, id.bytes.data(), sizeof word);
  return word;
}

// Pure; thread-safe.
ContentHash content_hash(std::span<const std::byte> bytes);

// Feeds BLAKE3 in pieces. Not thread-safe.
class Hasher {
 public:
  Hasher();
  void update(std::span<const std::byte> bytes);
  // Feeds the text preceded by its length, so that ("ab","c") and ("a","bc") differ.
  void update_field(std::string_view text);
  void update_field(std::uint64_t number);
  ContentHash finish() const;

 private:
  alignas(8) std::array<std::byte, 1920> state_;
};

// XXH3-64: detects accidents, not adversaries. Pure; thread-safe.
std::uint64_t checksum64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

}  // namespace alnair

template <>
struct std::hash<alnair::ContentHash> {
  std::size_t operator()(const alnair::ContentHash& value) const noexcept { return alnair::first64(value); }
};
template <>
struct std::hash<alnair::ChunkId> {
  std::size_t operator()(const alnair::ChunkId& id) const noexcept { return alnair::first64(id); }
};
