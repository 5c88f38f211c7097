// The content hashes of a manifest's chunks, by ordinal: known only once the bytes were read, and then to all
// processes of the node, which map one file of the share directory.
//
// A wrong hash is never returned: an entry carries a checksum of its hash and ordinal that is written last,
// so that what a killed or concurrent writer left half-written is unknown.
//
// Nothing throws: where no file can be shared, the table is this process's own (private memory), and where
// there is no memory either, nothing is remembered.
//
// Thread safety: all methods may be called from any thread, any process, and in forked children.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "alnair/core/hash.h"
#include "dataset/shared_file.h"

namespace alnair {

class SharedHashes {
 public:
  // The table of a manifest of that source, cut into `chunks` chunks of `chunk_size` bytes. It is the source's own: another
  // one may list the same (keys, sizes, times, no ETags) and hold other bytes. An empty directory shares nothing.
  SharedHashes(const std::string& share_directory, const std::string& source_identity,
               const std::string& manifest_version, std::uint64_t chunk_size, std::uint64_t chunks);

  std::uint64_t chunks() const { return chunks_; }
  bool shared() const { return shared_; }  // with other processes than forked children

  // nullopt: unknown, or no such chunk.
  std::optional<ContentHash> get(std::uint64_t ordinal) const;

  // Replaces what was there.
  void set(std::uint64_t ordinal, const ContentHash& hash);

 private:
  std::uint64_t* entry(std::uint64_t ordinal) const;

  std::uint64_t chunks_;
  bool shared_ = false;
  Mapping mapping_;
};

}  // namespace alnair
