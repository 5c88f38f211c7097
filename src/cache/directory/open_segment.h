// A segment while it is written: chunks are appended, then it is sealed and is immutable from then on.
//
// Used by one thread at a time; every method may block.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "cache/directory/direct_writes.h"
#include "cache/directory/segment_files.h"

namespace alnair {

class OpenSegment {
 public:
  // Makes the file, with room for `reserved_bytes` of records and footer in the account of the directory's
  // limit. `direct`: records pass the page cache by, where that can be done. null: `error` is the -errno.
  static std::unique_ptr<OpenSegment> create(SegmentFiles& files, const SegmentNonce& nonce,
                                             std::uint64_t node, DatasetTag dataset,
                                             std::uint64_t reserved_bytes, bool direct, int& error);
  OpenSegment(const OpenSegment&) = delete;
  OpenSegment& operator=(const OpenSegment&) = delete;
  // Unsealed: the file is removed.
  ~OpenSegment();

  // The size of a whole segment of `chunks` chunks whose records take `bytes`.
  static constexpr std::uint64_t segment_bytes(std::uint64_t chunks, std::uint64_t bytes) {
    return kSegmentHeadBytes + bytes + chunks * kSegmentEntryBytes + kSegmentTrailerBytes;
  }
  // Whether chunks whose records take `bytes` still fit.
  bool fits(std::uint64_t chunks, std::uint64_t bytes) const;
  // Writes chunks that fit; 0, or the -errno, and then none of them is there.
  int append(std::span<const PutRequest* const> chunks);

  // Publishes the file. Returns its footer, or nullopt: `error` is the -errno, and nothing was published.
  std::optional<SegmentFooter> seal(bool durable, std::uint64_t& file_bytes, int& error);

  DatasetTag dataset() const { return footer_.dataset; }
  std::uint64_t reserved_bytes() const { return reserved_bytes_; }
  std::size_t chunks() const { return footer_.entries.size(); }
  const std::shared_ptr<File>& file() const { return file_; }
  const SegmentNonce& nonce() const { return footer_.nonce; }
  const std::vector<SegmentEntry>& entries() const { return footer_.entries; }

 private:
  OpenSegment(SegmentFiles& files, std::uint64_t reserved_bytes)
      : files_(files), reserved_bytes_(reserved_bytes) {}
  int write(std::span<const iovec> pieces, std::uint64_t end);  // behind what was written, which ends there

  SegmentFiles& files_;
  const std::uint64_t reserved_bytes_;
  std::string name_;  // empty: sealed
  std::shared_ptr<File> file_;
  std::unique_ptr<DirectWrites> direct_;  // null: writes go through the page cache
  SegmentFooter footer_;
};

}  // namespace alnair
