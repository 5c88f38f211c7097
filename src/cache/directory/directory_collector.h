// Gives up what no live job names in a shared directory: whole segments, and segments that are mostly dead, whose named chunks are
// copied first.
//
// A live job names its chunks in files beside the segments (chunk_names.h), and again every now and then. What no job has named for as
// long as it asked for, and what nobody named at all for `durability`, is dead.
//
// name() and unname() may be called from any thread; all else by the tier's writing thread, and may block.
#pragma once

#include <map>
#include <mutex>
#include <unordered_set>

#include "cache/directory/chunk_names.h"
#include "cache/directory/directory_writer.h"

namespace alnair {

class DirectoryCollector {
 public:
  DirectoryCollector(const DirectoryOptions& options, DirectoryShare& share, SegmentFiles& files, DirectoryIndex& index,
                     DirectorySpace& space, DirectoryWriter& writer);

  void name(DatasetTag dataset, std::uint64_t version, NamedChunks names);
  void unname(DatasetTag dataset, std::uint64_t version);

  // Says in the directory that this process's jobs live, and what they name by now.
  void tell();
  // The same of one version; false: the directory does not know all its chunks, for as long as `durability`.
  bool tell_again(DatasetTag dataset, std::uint64_t version);

  // Collects segments, for a second or so; whether there may be more.
  bool collect();

  // Copies the other records of a segment of which these are damaged, and gives it up: so that no other host finds the same damage,
  // and nobody relies on what cannot be read.
  void mend(const SegmentNonce& segment, const std::unordered_set<ContentHash>& damaged);

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    NamedChunks names;
    std::size_t users = 0;  // that have named it, and not unnamed it
    std::size_t told = 0;   // chunks that the directory knows that we name
    bool checked = false;   // that a file of others keeps them long enough
  };
  using Key = std::pair<DatasetTag, std::uint64_t>;

  void tell(const Key& key, Job& job);
  bool touch_whole(const std::string& whole, Job& job);
  bool touch(const std::string& file);
  bool write(const std::string& file, const ChunkNames& names);
  std::optional<std::vector<std::byte>> read(const std::string& file, std::uint64_t most);
  bool list(std::vector<FileInfo>& listing, std::int64_t& now_ns);
  std::vector<ChunkNames> live_names(std::span<const FileInfo> listing, std::int64_t now_ns);
  bool collect(std::uint32_t slot, const KnownSegment& segment, std::span<const ChunkNames> names);
  bool replace(std::uint32_t slot, const KnownSegment& segment, const SegmentFooter& footer, std::span<const SegmentEntry> kept,
               DatasetTag dataset);

  const DirectoryOptions& options_;
  DirectoryShare& share_;
  SegmentFiles& files_;
  DirectoryIndex& index_;
  DirectorySpace& space_;
  DirectoryWriter& writer_;
  std::mutex mutex_;
  std::map<Key, Job> jobs_;
  std::map<SegmentNonce, Clock::time_point> examined_;  // segments that were worth keeping, and when
};

}  // namespace alnair
