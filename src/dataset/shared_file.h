// Files that the processes of a node share by mapping them: expanded manifests, tables of content hashes.
//
// They live in the share directory (node memory: local, of this user alone). A file appears there whole or
// not at all: it is written without a name and linked once it is complete, so that a killed writer leaves
// nothing behind. Space is allocated before the mapping is touched, because a write to a hole of a full file
// system is a SIGBUS.
//
// Nothing here throws: whoever cannot share works in private memory instead.
//
// Thread safety: distinct objects may be used from distinct threads. Mappings are inherited by forked
// children.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace alnair {

// Owns one mapping of memory, of a file or of none.
class Mapping {
 public:
  Mapping() = default;
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  explicit operator bool() const { return bytes_.data() != nullptr; }
  std::span<std::byte> bytes() { return bytes_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

// `size` zeroed bytes of this process (and of children forked later: a private copy each). Empty: not enough
// memory.
Mapping map_private_memory(std::uint64_t size);

enum class Access { kRead, kReadWrite };

// Maps a shared file whole, and marks it as used just now. Empty when there is none, or when it is not a
// plain file of this user, has holes, or is empty.
Mapping map_shared_file(const std::string& directory, const std::string& name, Access access);

// A shared file in the making.
class SharedFileDraft {
 public:
  // Allocates and maps `size` zeroed bytes. nullopt when the directory cannot take it: it is empty, absent,
  // read-only, or the file would take more than a quarter of what is free.
  static std::optional<SharedFileDraft> begin(const std::string& directory, std::uint64_t size);

  SharedFileDraft(SharedFileDraft&& other) noexcept;
  SharedFileDraft& operator=(SharedFileDraft&&) = delete;
  ~SharedFileDraft();

  std::span<std::byte> bytes() { return mapping_.bytes(); }

  // Names the file. False when another process was first (or the directory refuses): the draft is still good
  // memory.
  bool publish(const std::string& name);

  Mapping release() && { return std::move(mapping_); }

 private:
  SharedFileDraft() = default;
  std::string directory_;
  std::string temporary_;  // a path, where the file system knows no unnamed files
  int fd_ = -1;
  Mapping mapping_;
};

// Removes a damaged file, so that a new one can be published. Who has it mapped keeps it.
void remove_shared_file(const std::string& directory, const std::string& name);

// Keeps the `keep` most recently used files whose names start with `prefix` and removes the others.
void trim_shared_files(const std::string& directory, const std::string& prefix, std::size_t keep);

}  // namespace alnair
