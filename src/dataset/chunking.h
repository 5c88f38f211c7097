// How objects are cut into chunks, and how chunks are numbered and named.
//
// Pure. Thread safety: immutable.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "alnair/core/hash.h"
#include "alnair/dataset/manifest.h"
#include "alnair/source/object_source.h"

namespace alnair {

// A part of an object, in bytes.
struct ChunkRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// Numbers the chunks of a manifest 0, 1, 2... in the order of objects and offsets. An object has one chunk
// for every chunk_size bytes, and an empty object has one of no bytes. O(objects) to make; holds only the
// objects of several chunks.
class Chunking {
 public:
  // `chunk_size` must not be 0.
  Chunking(const Manifest& manifest, std::uint64_t chunk_size);

  std::uint64_t chunk_size() const { return chunk_size_; }
  std::uint64_t chunks() const { return chunks_; }  // of all objects

  // Of one object.
  std::uint64_t chunks_of(std::uint64_t object_size) const {
    return object_size == 0 ? 1 : (object_size - 1) / chunk_size_ + 1;
  }
  ChunkRange range(std::uint64_t object_size, std::uint64_t chunk) const;

  // The number of chunk `chunk` of object `object`. O(log n) in the objects of several chunks, else O(1).
  std::uint64_t ordinal(std::uint64_t object, std::uint64_t chunk) const;

 private:
  struct Large {            // an object of several chunks
    std::uint64_t object;   // its index
    std::uint64_t surplus;  // chunks beyond one, of it and all objects before it
  };
  std::uint64_t chunk_size_;
  std::uint64_t chunks_ = 0;
  std::vector<Large> large_;
};

// Names the chunks of one source: equal ids mean the same bytes, for all processes, hosts and datasets.
class ChunkNamer {
 public:
  ChunkNamer(std::string_view source_identity, std::uint64_t chunk_size);

  // The version of the object is its size and ETag, or, without an ETag, its size and last-modified time.
  ChunkId name(const ObjectInfo& object, std::uint64_t chunk) const;

 private:
  Hasher prefix_;  // has taken what all names of the source begin with
};

}  // namespace alnair
