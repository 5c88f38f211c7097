// Manifest blobs as files of a directory, named by version: the blob and 8 bytes more, its checksum64 (that
// the blob is the one that the version names is checked by whoever decodes it).
//
// Thread safety: as the file system: distinct processes may use one directory. rename_in() and retain() of
// one directory must take turns (they run inside write transactions of the catalog).
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace alnair {

class ManifestFiles {
 public:
  explicit ManifestFiles(std::string directory) : directory_(std::move(directory)) {}

  // Writes the blob under a temporary name, which it returns. Throws CacheError.
  std::string write(std::string_view version, std::span<const std::byte> blob) const;
  void rename_in(const std::string& temporary, std::string_view version) const;  // throws CacheError

  // nullopt: there is none, or it was damaged (and is removed, with a warning). Throws CacheError if it
  // cannot be read.
  std::optional<std::vector<std::byte>> read(std::string_view version) const;

  // Removes all files but those of these versions, and temporary files that were abandoned an hour ago.
  void retain(const std::set<std::string>& versions) const;

 private:
  std::string path(std::string_view version) const { return directory_ + "/" + std::string(version); }
  std::string directory_;
};

}  // namespace alnair
