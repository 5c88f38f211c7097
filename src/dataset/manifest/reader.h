// Reads a manifest's body in place. Every access is checked against the body's bounds: whatever the bytes
// are, a read gives a value or throws CacheError.
//
// Thread safety: immutable. Does not own the bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/source/object_source.h"
#include "dataset/manifest/format.h"

namespace alnair::manifest {

class Reader {
 public:
  explicit Reader(std::span<const std::byte> body);  // throws CacheError

  std::uint64_t size() const { return layout_.objects; }
  std::uint64_t total_bytes() const { return layout_.total_bytes; }

  // The index must be below size(), for all of these.
  std::string key(std::uint64_t index) const;
  std::uint64_t object_size(std::uint64_t index) const {
    return load_number(sizes_ + index * layout_.size_width, layout_.size_width);
  }
  ObjectInfo object(std::uint64_t index) const;

  std::vector<ObjectInfo> objects(std::uint64_t first, std::uint64_t count) const;  // within size()
  std::optional<std::uint64_t> find(std::string_view key) const;

 private:
  class KeyCursor;
  void read_columns(std::uint64_t index, ObjectInfo& object) const;
  std::string etag(std::uint64_t index) const;
  std::span<const std::byte> run(std::uint64_t run_index) const;  // its keys, to the end of all keys

  Layout layout_;
  const std::byte* flags_;
  const std::byte* sizes_;
  const std::byte* times_;
  const std::byte* parts_;
  const std::byte* etags_;
  const std::byte* restarts_;
  std::span<const std::byte> keys_;
  std::span<const std::byte> heap_;
};

}  // namespace alnair::manifest
