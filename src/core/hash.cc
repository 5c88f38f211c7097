#include "alnair/core/hash.h"

#include <blake3.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <new>

namespace alnair {

#if defined(__x86_64__)
unsigned long long checksum64_avx2(const void* bytes, unsigned long size, unsigned long long seed);
unsigned long long checksum64_avx2_long(const void* bytes, unsigned long size, unsigned long long seed);
#endif

namespace {

#if defined(__x86_64__)
constexpr std::size_t kLong = 32 << 10;  // bytes
#endif

constexpr char kHex[] = "0123456789abcdef";

template <std::size_t N>
std::string to_hex(const std::array<std::uint8_t, N>& bytes) {
  std::string text;
  text.reserve(2 * N);
  for (const std::uint8_t byte : bytes) {
    text.push_back(kHex[byte >> 4]);
    text.push_back(kHex[byte & 15]);
  }
  return text;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string ContentHash::hex() const { return to_hex(bytes); }
std::string ChunkId::hex() const { return to_hex(bytes); }

std::optional<ContentHash> ContentHash::from_hex(std::string_view text) {
  ContentHash hash;
  if (text.size() != 2 * hash.bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < hash.bytes.size(); ++i) {
    const int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    hash.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return hash;
}

static_assert(sizeof(blake3_hasher) <= 1920 && alignof(blake3_hasher) <= 8);

Hasher::Hasher() {
  // The C library finds out what the processor can do at its first compression, and writes that down without
  // synchronisation. Here one thread does it before any other.
  static const bool kProcessorKnown = [] {
    blake3_hasher hasher;
    std::array<std::uint8_t, 32> hash;
    blake3_hasher_init(&hasher);
    blake3_hasher_finalize(&hasher, hash.data(), hash.size());
    return true;
  }();
  static_cast<void>(kProcessorKnown);
  blake3_hasher_init(new (state_.data()) blake3_hasher);
}

void Hasher::update(std::span<const std::byte> bytes) {
  blake3_hasher_update(reinterpret_cast<blake3_hasher*>(state_.data()), bytes.data(), bytes.size());
}

void Hasher::update_field(std::string_view text) {
  update_field(static_cast<std::uint64_t>(text.size()));
  update(std::as_bytes(std::span(text.data(), text.size())));
}

void Hasher::update_field(std::uint64_t number) {
  std::array<std::byte, 8> little_endian;
  for (auto& byte : little_endian) {
    byte = static_cast<std::byte>(number);
    number >>= 8;
  }
  update(little_endian);
}

ContentHash Hasher::finish() const {
  ContentHash hash;
  blake3_hasher_finalize(reinterpret_cast<const blake3_hasher*>(state_.data()), hash.bytes.data(),
                         hash.bytes.size());
  return hash;
}

ContentHash content_hash(std::span<const std::byte> bytes) {
  Hasher hasher;
  hasher.update(bytes);
  return hasher.finish();
}

std::uint64_t checksum64(std::span<const std::byte> bytes, std::uint64_t seed) {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2 && bytes.size() >= kLong) return checksum64_avx2_long(bytes.data(), bytes.size(), seed);
  if (avx2 && bytes.size() > 240) return checksum64_avx2(bytes.data(), bytes.size(), seed);
#endif
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace alnair
