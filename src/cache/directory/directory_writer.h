// All that changes a directory: scanning it, writing and sealing segments, evicting, merging.
//
// Used by one thread at a time (the tier's writing thread); every method may block, oldest() apart.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <unordered_set>
#include <vector>

#include "cache/directory/directory_space.h"
#include "cache/directory/directory_tier.h"
#include "cache/directory/open_chunks.h"
#include "core/log.h"

namespace alnair {

class DirectoryWriter {
 public:
  using Clock = std::chrono::steady_clock;

  DirectoryWriter(const DirectoryOptions& options, DirectoryShare& share, SegmentFiles& files,
                  DirectoryIndex& index, DirectorySpace& space, OpenChunks& open_chunks);

  // Brings the index up to date with the directory, if that may have changed since the last scan; or `anyway`. false: it
  // could not be listed.
  bool scan(bool anyway = false);

  // For each chunk, whether it is in a sealed segment that is there now, by a look that begins after the call: only the segments that
  // should have it are looked for, and the directory is listed only where one is missing.
  std::vector<char> sealed(std::span<const ContentHash> hashes);

  // Writes the chunks into open segments. An outcome is kStored or kRefused.
  void put(std::span<const PutRequest* const> requests, std::span<PutOutcome* const> outcomes);

  // Seals the segments that were opened before `opened_before`.
  void seal(Clock::time_point opened_before = Clock::time_point::max());

  // Makes one of several small segments, if there are enough of them and there is room for the copy.
  void merge();

  // Copies these records of a sealed segment to a new one, for this dataset, and seals it. The chunks that are in it: all but damaged
  // ones; nullopt: it could not be done.
  std::optional<std::unordered_set<ContentHash>> copy_to_new(const SegmentFooter& from, std::span<const SegmentEntry> entries,
                                                             DatasetTag dataset);

  // Whether seal(opened_before) has something to do. From any thread.
  bool has_older(Clock::time_point opened_before) const;

 private:
  struct Open {
    std::unique_ptr<OpenSegment> segment;
    LockFile::Guard owner;  // says that we live, until the segment is sealed or gone
    Clock::time_point since;
  };
  OpenSegment* open_for(DatasetTag dataset, std::uint64_t length);
  Open create(DatasetTag dataset, std::uint64_t bytes, bool may_evict);
  bool write(OpenSegment& segment, std::span<const PutRequest* const> chunks);
  bool seal(Open open, std::int64_t last_used_ns);  // whether it is sealed and in the index
  bool copy(const SegmentNonce& from, std::span<const std::pair<std::uint32_t, KnownSegment>> sources,
            OpenSegment& to);
  bool copy(const SegmentNonce& from, std::span<const SegmentEntry> entries, OpenSegment& to);
  void note_oldest();
  void note_full(std::uint64_t bytes);
  void load(const SegmentNonce& nonce, const FileInfo& file);
  void enter(const SegmentFooter& footer, std::uint64_t file_bytes, std::int64_t created_ns,
             std::int64_t last_used_ns);
  void bring_back(const SegmentNonce& nonce);
  bool remove_orphan(const OpenSegmentName& name, const FileInfo& file);

  const DirectoryOptions& options_;
  DirectoryShare& share_;
  SegmentFiles& files_;
  DirectoryIndex& index_;
  DirectorySpace& space_;
  OpenChunks& open_chunks_;
  std::map<DatasetTag, Open> open_;
  std::map<SegmentNonce, Clock::time_point> leaving_;  // segments that leave, and since when we have seen that
  Clock::time_point listed_{};      // the last time that the whole directory was
  std::atomic<Clock::rep> oldest_;  // when the oldest open segment was opened
  // No room was found for so many bytes: do not look again before that time.
  std::uint64_t full_for_bytes_ = 0;
  Clock::time_point full_until_{};
  Once full_logged_;
};

}  // namespace alnair
