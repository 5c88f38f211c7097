// The format of a segment in a directory. Pure: no I/O.
//
//   head      16 bytes: magic "ALNRSEG1" (8), zero (8)
//   records   the chunks' bytes, one after another, each at a multiple of 16
//   entries   one a record, in their order, 40 bytes: content hash (32), offset (u32), length (u32)
//   trailer   64 bytes: magic "ALNRSEG1" (8), nonce (16), dataset (u64), offset of the entries (u64), their
//   number
//             (u32), zero (12), XXH3-64 of the entries and of the trailer before it (u64)
//
// Integers are little-endian. A segment is at most 64 MiB. Its file's name is its nonce in hex and
// ".segment": a file under another's name is damaged. What is damaged is noticed: the footer (entries and
// trailer) by its checksum, a record by its content hash.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/core/hash.h"

namespace alnair {

constexpr std::uint64_t kMaxSegmentFileBytes = 64u << 20;
constexpr std::uint64_t kSegmentHeadBytes = 16;
constexpr std::uint64_t kSegmentEntryBytes = 40;
constexpr std::uint64_t kSegmentTrailerBytes = 64;

// Random: names a segment, and tells it from every other one, on any host.
using SegmentNonce = std::array<std::uint8_t, 16>;

struct SegmentEntry {
  ContentHash hash;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
};

struct SegmentFooter {
  SegmentNonce nonce{};
  DatasetTag dataset = 0;
  std::uint64_t records_end = kSegmentHeadBytes;  // where the entries begin; a multiple of 16
  std::vector<SegmentEntry> entries;
};

// What a chunk of this many bytes takes among the records.
constexpr std::uint64_t record_bytes(std::uint64_t length) { return (length + 15) / 16 * 16; }

std::array<std::byte, kSegmentHeadBytes> segment_head();
std::vector<std::byte> encode_footer(const SegmentFooter& footer);

// How many bytes the footer takes, from the file's last kSegmentTrailerBytes; nullopt: damaged.
std::optional<std::uint64_t> footer_bytes(std::span<const std::byte> trailer, std::uint64_t file_bytes);

// The footer from the file's last footer_bytes(); nullopt: damaged.
std::optional<SegmentFooter> decode_footer(std::span<const std::byte> footer);

std::string segment_name(const SegmentNonce& nonce);
std::optional<SegmentNonce> parse_segment_name(std::string_view name);

// While it leaves a directory that others rely on: see DirectorySpace.
std::string leaving_segment_name(const SegmentNonce& nonce);
std::optional<SegmentNonce> parse_leaving_segment_name(std::string_view name);

// While it is written: "<nonce>.<node>.open". `node` is the writer's node memory: its locks tell whether the
// writer lives.
std::string open_segment_name(const SegmentNonce& nonce, std::uint64_t node);
struct OpenSegmentName {
  SegmentNonce nonce;
  std::uint64_t node;
};
std::optional<OpenSegmentName> parse_open_segment_name(std::string_view name);

}  // namespace alnair
