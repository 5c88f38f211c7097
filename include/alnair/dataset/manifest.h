// The immutable list of a dataset version: its objects in bytewise key order.
//
// On disk: docs/formats.md. In memory: front-coded columns that all processes of a node share by mapping one file.
// Thread safety: immutable, so all methods may be called from any thread, and in forked children.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/core/hash.h"
#include "alnair/source/object_source.h"

namespace alnair {

class Manifest {
 public:
  virtual ~Manifest() = default;

  // Hex content hash of the manifest's encoded (uncompressed) bytes: equal lists have equal versions.
  virtual const std::string& version() const = 0;
  virtual std::uint64_t size() const = 0;          // objects
  virtual std::uint64_t total_bytes() const = 0;   // of all objects
  virtual ObjectInfo object(std::uint64_t index) const = 0;  // O(1). Throws std::out_of_range.
  virtual std::string key(std::uint64_t index) const = 0;    // O(1). Throws std::out_of_range.
  virtual std::uint64_t object_size(std::uint64_t index) const = 0;
  virtual std::optional<std::uint64_t> find(std::string_view key) const = 0;  // O(log n)

  // The objects [first, first + count): much cheaper than one by one. Throws std::out_of_range.
  virtual std::vector<ObjectInfo> objects(std::uint64_t first, std::uint64_t count) const = 0;

  // Encodes objects (in any order; of equal keys the most recently modified stays) as a compressed blob for a catalog.
  static std::vector<std::byte> encode(std::vector<ObjectInfo> objects);

  // Opens a blob. If `share_directory` is not empty, the expanded form is kept there in a file named by the version, which
  // other processes map instead of expanding it again. Throws CacheError if the blob is damaged or of a newer format.
  static std::shared_ptr<const Manifest> decode(std::span<const std::byte> blob,
                                                const std::string& share_directory);

  // Maps the expanded form if some process has left it there and it is intact; else null.
  static std::shared_ptr<const Manifest> open_shared(const std::string& version, const std::string& share_directory);
};

}  // namespace alnair
