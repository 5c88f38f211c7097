// The manifest's binary format (docs/formats.md, "Manifest"): numbers of the layout that encoder and reader
// share. Everything is little-endian. Pure.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "alnair/core/hash.h"

namespace alnair::manifest {

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::big) {
    T swapped = 0;
    for (std::size_t i = 0; i < sizeof value; ++i)
      swapped = static_cast<T>(swapped << 8 | (value >> 8 * i & 0xff));
    value = swapped;
  }
  return value;
}

// A number of `width` bytes, 0 to 8.
inline std::uint64_t load_number(const std::byte* from, unsigned width) {
  switch (width) {
    case 0:
      return 0;
    case 1:
      return load<std::uint8_t>(from);
    case 2:
      return load<std::uint16_t>(from);
    case 4:
      return load<std::uint32_t>(from);
    default:
      return load<std::uint64_t>(from);
  }
}

inline void store_number(std::byte* to, std::uint64_t value, unsigned width) {
  for (unsigned i = 0; i < width; ++i) to[i] = static_cast<std::byte>(value >> 8 * i);
}

// The envelope: 64 bytes before the payload, which is the body (in shared files) or its zstd frame (in
// blobs).
//
//   0 magic  8 format u32  12 codec u32  16 body size u64  24 version: content hash of the body
//   56 checksum64 of the payload, seeded with the checksum64 of the envelope's first 56 bytes
constexpr std::uint64_t kMagic = 0x464e414d524e4c41;  // "ALNRMANF"
constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kEnvelopeSize = 64;
enum class Codec : std::uint32_t { kRaw = 0, kZstd = 1 };

struct Envelope {
  Codec codec = Codec::kRaw;
  std::uint64_t body_size = 0;
  ContentHash version;
};

// Writes the envelope of `payload` to the kEnvelopeSize bytes at `to`.
void write_envelope(std::byte* to, const Envelope& envelope, std::span<const std::byte> payload);

// Checks that the payload behind the envelope is what was written. Throws CacheError.
Envelope read_envelope(std::span<const std::byte> bytes);

// The body: a header of 64 bytes, then the columns in this order, without gaps:
//   flags   1 byte an object: kind of ETag (low two bits), archived (bit 2)
//   sizes, times, parts   a number of the header's width an object
//   etags   16 bytes an object, or none
//   restarts  where each run of restart_interval keys begins in `keys`
//   keys    front-coded: varint shared (absent in the first of a run), varint length of the rest, the rest
//   heap    ETags that are no MD5
// The encoding of a list is canonical: widths are the smallest that fit, so equal lists have equal bytes.
struct Layout {
  std::uint64_t objects = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t time_base = 0;  // milliseconds, two's complement
  std::uint64_t time_unit = 1;  // milliseconds
  std::uint8_t size_width = 0;  // of each: 0, 1, 2, 4 or 8
  std::uint8_t time_width = 0;
  std::uint8_t parts_width = 0;
  std::uint8_t etag_width = 0;     // 0 or 16
  std::uint8_t restart_width = 0;  // 4 or 8
  std::uint32_t restart_interval = 0;
  std::uint64_t keys_size = 0;
  std::uint64_t heap_size = 0;

  std::uint64_t restarts() const { return (objects + restart_interval - 1) / restart_interval; }
};
constexpr std::size_t kLayoutSize = 64;
constexpr std::uint32_t kRestartInterval = 16;

void write_layout(std::byte* to, const Layout& layout);

// Throws CacheError unless the layout is well-formed and describes exactly `body_size` bytes.
Layout read_layout(std::span<const std::byte> body);

// How an ETag is kept.
enum class EtagKind : std::uint8_t {
  kNone = 0,
  kMd5 = 1,        // 32 lower-case hex digits: 16 bytes in `etags`
  kMultipart = 2,  // the same and "-N": N in `parts`
  kText = 3,       // anything else: offset and length (u64 each) in `etags`, the text in the heap
};
constexpr std::uint8_t kEtagKindMask = 3;
constexpr std::uint8_t kArchivedFlag = 4;

struct ParsedEtag {
  EtagKind kind = EtagKind::kNone;
  std::array<std::byte, 16> digest{};
  std::uint32_t parts = 0;
};
ParsedEtag parse_etag(std::string_view etag);

// Appends the text of an MD5 in hex.
void append_hex(std::string& text, const std::byte* digest);

}  // namespace alnair::manifest
