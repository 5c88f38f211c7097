// Appends to a file past the page cache (O_DIRECT). See docs/decisions/042.
//
// Used by one thread at a time; every method may block.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "cache/directory/file_system.h"

namespace alnair {

class DirectWrites {
 public:
  // For a file that is there, and is empty or all holes. null: its file system is another host's, or has no such writes.
  static std::unique_ptr<DirectWrites> open(const std::shared_ptr<FileSystem>& files, const std::string& path);

  // Writes the pieces behind what was appended before. 0, or the -errno: then nothing was appended. Behind the end, up to the end of
  // its block, the file has zeros.
  int append(std::span<const iovec> pieces);

 private:
  static constexpr std::size_t kBlock = 4096;          // no disk needs more
  static constexpr std::size_t kStaged = 256 * kBlock;  // bytes in one call; they stay in a core's cache
  struct alignas(kBlock) Staging {
    std::array<std::byte, kStaged> bytes;
  };

  explicit DirectWrites(std::shared_ptr<FileSystem> files, int fd)
      : file_(std::move(files), fd), staging_(std::make_unique_for_overwrite<Staging>()) {}

  const File file_;
  const std::unique_ptr<Staging> staging_;
  std::uint64_t end_ = 0;
  std::array<std::byte, kBlock> last_{};  // the block of the end, as far as it is filled
};

}  // namespace alnair
