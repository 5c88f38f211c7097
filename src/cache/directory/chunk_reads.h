// Reading many chunks: in what order, how many at once, and checked.
#pragma once

#include <functional>
#include <span>
#include <unordered_set>
#include <vector>

#include "cache/directory/directory_index.h"
#include "cache/directory/open_chunks.h"

namespace alnair {

// One chunk to read.
struct PlacedRead {
  std::size_t index = 0;  // the caller's
  ContentHash hash;
  OpenChunks::Chunk open;  // where it is in a segment of our own; else
  ChunkPlaces places;      // where it may be
  View bytes;              // the result
  bool found = false;
};

// Puts reads that one thread should make together, in the order of their offsets, next to each other, and
// returns the groups. Pure.
std::vector<std::span<PlacedRead>> group_reads(std::span<PlacedRead> reads);

// Chunks that did not match their hash, in one segment.
struct DamagedChunks {
  SegmentNonce segment{};
  std::unordered_set<ContentHash> chunks = {};
};

// Reads one group, and checks every chunk against its hash. What cannot be had is not found; damaged chunks
// are counted, forgotten, and returned. Blocks.
DamagedChunks read_group(std::span<PlacedRead> reads, SegmentFiles& files, DirectoryIndex& index,
                         const OpenChunks& open_chunks);

}  // namespace alnair
