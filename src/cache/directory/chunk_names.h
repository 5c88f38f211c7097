// Which chunks the live jobs of a shared directory name, so that what none of them names can go. Pure: no I/O.
//
// A file a dataset version, beside the segments; its time of change says when a live job last named the chunks:
//
//   "<dataset>-<version>.names"          has them all, and any host may touch it
//   "<dataset>-<version>-<node>.names"   has what that node knows so far
//
//   magic "ALNRNAM1" (8), dataset (u64), seconds that the chunks are to be kept (u64), their number (u64), the first 64 bits of each
//   content hash, ascending (u64 each), XXH3-64 of all that (u64)
//
// Integers are little-endian; in names they are 16 hex digits. 64 bits are enough: a chunk that is mistaken for a named one stays.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/cache/tier.h"

namespace alnair {

struct ChunkNames {
  DatasetTag dataset = 0;
  std::chrono::seconds keep{0};
  std::vector<std::uint64_t> chunks = {};  // ascending

  bool has(std::uint64_t chunk) const;
};

std::vector<std::byte> encode_names(const ChunkNames& names);
std::optional<ChunkNames> decode_names(std::span<const std::byte> bytes);  // nullopt: damaged

struct NamesFile {
  DatasetTag dataset = 0;
  std::uint64_t version = 0;
  std::optional<std::uint64_t> node = {};  // none: it has them all
};
std::string names_file(const NamesFile& file);
std::optional<NamesFile> parse_names_file(std::string_view name);

}  // namespace alnair
