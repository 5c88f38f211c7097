// The files of one directory: their paths, sealed segments opened for reading (a bounded number at once),
// footers, and the account of faults.
//
// Thread-safe. All but the path functions may block.
#pragma once

#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "cache/directory/file_system.h"
#include "cache/directory/segment_format.h"
#include "core/metrics.h"

namespace alnair {

// A sealed segment opened for reading: its descriptor, and as much of its footer as reads need.
class SegmentFile {
 public:
  struct Chunk {
    std::uint32_t offset, length, prefix;
  };
  SegmentFile(std::shared_ptr<File> file, const std::vector<SegmentEntry>& entries);

  const File& file() const { return *file_; }
  // The length of the hash's chunk at this offset; nullopt: another chunk, or none, is there.
  std::optional<std::uint32_t> length_at(std::uint32_t offset, const ContentHash& hash) const;

 private:
  const std::shared_ptr<File> file_;
  std::vector<Chunk> chunks_;  // by offset
};

SegmentNonce random_nonce();

class SegmentFiles {
 public:
  // `name` labels the tier in messages, `id` in metrics.
  SegmentFiles(std::string directory, std::shared_ptr<FileSystem> files, TierId id, std::string name,
               std::size_t max_open = 128);

  const std::string& directory() const { return directory_; }
  std::string path(const std::string& file) const { return directory_ + "/" + file; }
  const std::shared_ptr<FileSystem>& files() const { return files_; }
  TierId id() const { return id_; }

  // The segment, opened if it is not yet. null: it is damaged (`error` is 0), or `error` is the -errno.
  std::shared_ptr<const SegmentFile> open(const SegmentNonce& nonce, int& error);
  // Whether a sealed segment has its name; who has it open may read it longer.
  bool is_there(const SegmentNonce& nonce);
  // Closes the segment's descriptor once nobody reads it.
  void forget(const SegmentNonce& nonce);

  // The footer of a sealed segment. nullopt: it is damaged (`error` is 0), or `error` is the -errno.
  std::optional<SegmentFooter> read_footer(const SegmentNonce& nonce, int& error);

  // The text of a small file that names the directory, which is made if it is missing: of all who make it at once, one's
  // stays. Empty: it cannot be read or made.
  std::string identity(std::string_view file);

  // Counts a fault, and logs the first of each kind. Returns `error`.
  int fault(int error, const char* what, const std::string& file);

 private:
  struct NonceHash {
    std::size_t operator()(const SegmentNonce& nonce) const {
      std::size_t word;
      std::memcpy(&word, nonce.data(), sizeof word);
      return word;
    }
  };
  using Recent = std::list<std::pair<SegmentNonce, std::shared_ptr<const SegmentFile>>>;

  std::shared_ptr<File> open_file(const SegmentNonce& nonce, int& error);
  std::optional<SegmentFooter> read_footer(const File& file, const SegmentNonce& nonce, int& error);

  const std::string directory_;
  const std::shared_ptr<FileSystem> files_;
  const TierId id_;
  const std::string name_;
  const std::size_t max_open_;
  std::mutex mutex_;
  Recent recent_;  // most recently used first
  std::unordered_map<SegmentNonce, Recent::iterator, NonceHash> open_;
  std::set<int> logged_;
};

}  // namespace alnair
