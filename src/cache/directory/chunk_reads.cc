#include "cache/directory/chunk_reads.h"

#include <errno.h>

#include <algorithm>
#include <chrono>
#include <compare>
#include <tuple>

#include "core/recycled_buffer.h"

namespace alnair {
namespace {

constexpr std::uint64_t kGroupSpan =
    1u << 20;  // large enough to be one access, small enough to spread over threads
constexpr std::size_t kGroupChunks = 256;
constexpr std::uint64_t kMaxGap = 16u << 10;  // reading over it costs less than another call

std::tuple<const File*, std::uint32_t, std::uint32_t> position(const PlacedRead& read) {
  if (read.open.file != nullptr) return {read.open.file.get(), 0, read.open.offset};
  return {nullptr, read.places.places[0].slot, read.places.places[0].offset};
}

// One chunk at a known place of an open file.
struct Part {
  PlacedRead* read;
  std::uint32_t offset, length;
  RecycledBuffer buffer;
};

// Reads parts that lie close together, in the order of their offsets; false: the file system said `error`.
bool read_parts(const File& file, std::span<Part> parts, int& error) {
  std::vector<std::byte> gap(kMaxGap);
  for (std::size_t begin = 0, end; begin < parts.size(); begin = end) {
    std::vector<iovec> pieces;
    std::uint64_t at = parts[begin].offset;
    for (end = begin; end < parts.size(); ++end) {
      Part& part = parts[end];
      if (part.offset < at || part.offset - at > kMaxGap) break;
      if (part.offset > at) pieces.push_back({gap.data(), part.offset - at});
      pieces.push_back({part.buffer.data(), part.length});
      at = std::uint64_t{part.offset} + part.length;
    }
    if (end == begin) ++end, pieces.push_back({parts[begin].buffer.data(), parts[begin].length});
    const std::int64_t got = file.files().read(file.fd(), pieces, parts[begin].offset);
    if (got < 0) {
      error = static_cast<int>(got);
      return false;
    }
    for (std::size_t i = begin; i < end; ++i) {
      Part& part = parts[i];
      const std::uint64_t relative = part.offset - parts[begin].offset;
      if (relative + part.length > static_cast<std::uint64_t>(got))
        continue;  // the file is shorter than its footer says
      if (content_hash(part.buffer.bytes()) != part.read->hash) continue;
      part.read->bytes = std::move(part.buffer).freeze();
      part.read->found = true;
    }
  }
  return true;
}

// The chunk, at one of the places that the index names now and that was not tried before.
void retry(PlacedRead& read, SegmentFiles& files, DirectoryIndex& index, const OpenChunks& open_chunks,
           const std::optional<ChunkPlace>& tried) {
  int error = 0;
  if (const OpenChunks::Chunk open = open_chunks.find(read.hash); open.file != nullptr) {
    Part part{&read, open.offset, open.length, RecycledBuffer(open.length)};
    if (read_parts(*open.file, {&part, 1}, error) && read.found) return;
  }
  for (const ChunkPlace& place : index.find(read.hash)) {
    if (tried && place.segment == tried->segment && place.offset == tried->offset) continue;
    const auto segment = files.open(place.segment, error);
    const auto length = segment == nullptr ? std::nullopt : segment->length_at(place.offset, read.hash);
    if (!length) continue;
    Part part{&read, place.offset, *length, RecycledBuffer(*length)};
    if (read_parts(segment->file(), {&part, 1}, error) && read.found) return;
  }
}

}  // namespace

std::vector<std::span<PlacedRead>> group_reads(std::span<PlacedRead> reads) {
  std::sort(reads.begin(), reads.end(),
            [](const PlacedRead& a, const PlacedRead& b) { return position(a) < position(b); });
  std::vector<std::span<PlacedRead>> groups;
  for (std::size_t begin = 0, end; begin < reads.size(); begin = end) {
    const auto [file, slot, offset] = position(reads[begin]);
    for (end = begin + 1; end < reads.size() && end - begin < kGroupChunks; ++end) {
      const auto [next_file, next_slot, next_offset] = position(reads[end]);
      if (next_file != file || next_slot != slot || next_offset - offset > kGroupSpan) break;
    }
    groups.push_back(reads.subspan(begin, end - begin));
  }
  return groups;
}

DamagedChunks read_group(std::span<PlacedRead> reads, SegmentFiles& files, DirectoryIndex& index,
                         const OpenChunks& open_chunks) {
  std::vector<Part> parts;
  if (reads[0].open.file != nullptr) {
    for (PlacedRead& read : reads) {
      parts.push_back({&read, read.open.offset, read.open.length, RecycledBuffer(read.open.length)});
    }
    int error = 0;
    if (!read_parts(*reads[0].open.file, parts, error)) files.fault(error, "read", "");
    for (PlacedRead& read : reads) {
      if (!read.found) retry(read, files, index, open_chunks, std::nullopt);
    }
    return {};
  }
  const ChunkPlace& first = reads[0].places.places[0];
  DamagedChunks damaged{.segment = first.segment};
  int error = 0;
  const auto segment = files.open(first.segment, error);
  if (segment == nullptr && error == 0) metrics().add(files.id(), TierCounter::kCorrupt);
  if (segment != nullptr) {
    for (PlacedRead& read : reads) {
      const std::uint32_t offset = read.places.places[0].offset;
      if (const auto length = segment->length_at(offset, read.hash))
        parts.push_back({&read, offset, *length, RecycledBuffer(*length)});
    }
    if (read_parts(segment->file(), parts, error)) {
      for (const Part& part : parts) {
        // Who takes it out of the node's index counts it: another one may read it at this moment.
        if (!part.read->found && index.erase(part.read->hash, part.read->places.places[0]))
          damaged.chunks.insert(part.read->hash);
      }
      // One that is gone has been copied without it by whoever found the damage first, and counted there.
      if (!damaged.chunks.empty() && !files.is_there(first.segment)) {
        files.forget(first.segment);
        damaged.chunks.clear();
      }
      metrics().add(files.id(), TierCounter::kCorrupt, damaged.chunks.size());
    }
    index.table().mark_used(
        first.slot, std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count());
  }
  if (is_gone(error)) files.forget(first.segment);  // its descriptor, if there is one, is of no use
  if (error < 0 && !is_gone(error)) files.fault(error, "read", segment_name(first.segment));
  // The place was out of date (evicted or merged a moment ago), another chunk's, or damaged.
  for (PlacedRead& read : reads) {
    if (!read.found) retry(read, files, index, open_chunks, read.places.places[0]);
  }
  return damaged;
}

}  // namespace alnair
