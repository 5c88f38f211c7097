// The record: how a chunk lies in a segment of node memory.
//
//   offset  bytes
//   0       4      magic
//   4       4      length of the payload in bytes
//   8       32     content hash
//   40      8      checksum: XXH3-64 of the payload, seeded by the XXH3-64 of bytes 4..39, seeded by the
//   segment's nonce 48      length payload, then zeros up to the next multiple of 16
//
// Integers are little-endian. Because the nonce is random and its segment's own, an object's bytes cannot
// pose as a record, and a record left over from another segment is none in this one.
//
// Pure functions; thread-safe.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "alnair/core/hash.h"

namespace alnair {

static_assert(std::endian::native == std::endian::little,
              "segments are little-endian, and mapped as they are");

inline constexpr std::uint64_t kRecordAlignment = 16;
inline constexpr std::uint32_t kRecordMagic = 0x31636552;  // "Rec1"
inline constexpr std::uint64_t kMaxSegmentBytes = std::uint64_t{64} << 20;

struct RecordHeader {
  std::uint32_t magic = 0;
  std::uint32_t length = 0;
  ContentHash hash;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(RecordHeader) == 48);

// Bytes that a payload takes in a segment, header and padding included.
constexpr std::uint64_t record_size(std::uint64_t payload) {
  return (sizeof(RecordHeader) + payload + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
}

inline std::uint64_t record_checksum(const RecordHeader& header, std::span<const std::byte> payload,
                                     std::uint64_t nonce) {
  const std::uint64_t seed = checksum64(std::as_bytes(std::span(&header, 1)).subspan(4, 36), nonce);
  return checksum64(payload, seed);
}

// `payload` must be smaller than 4 GiB.
inline RecordHeader make_record_header(const ContentHash& hash, std::span<const std::byte> payload,
                                       std::uint64_t nonce) {
  RecordHeader header{kRecordMagic, static_cast<std::uint32_t>(payload.size()), hash, 0};
  header.checksum = record_checksum(header, payload, nonce);
  return header;
}

// The header at `offset` of a segment of which `segment` is mapped or read, if a whole record could lie
// there. Nothing is verified but the bounds and the magic.
inline std::optional<RecordHeader> read_record_header(std::span<const std::byte> segment,
                                                      std::uint64_t offset) {
  if (offset > segment.size() || segment.size() - offset < sizeof(RecordHeader)) return std::nullopt;
  RecordHeader header;
  std::memcpy(&header, segment.data() + offset, sizeof header);
  if (header.magic != kRecordMagic || segment.size() - offset - sizeof header < header.length)
    return std::nullopt;
  return header;
}

inline std::span<const std::byte> record_payload(std::span<const std::byte> segment, std::uint64_t offset,
                                                 const RecordHeader& header) {
  return segment.subspan(offset + sizeof(RecordHeader), header.length);
}

// Whether header and payload are what was written into the segment of this nonce.
inline bool verify_record(const RecordHeader& header, std::span<const std::byte> payload,
                          std::uint64_t nonce) {
  return header.magic == kRecordMagic && header.length == payload.size() &&
         header.checksum == record_checksum(header, payload, nonce);
}

}  // namespace alnair
