// How a segment comes to be, so that a process or host may die between any two steps:
//
//  1. Create "<nonce>.<node>.open" (O_EXCL). No reader looks at such a name. What a dead writer leaves is
//  removed by
//     whoever scans the directory next: at once if its node's lock shows that the writer is gone, by age
//     otherwise.
//  2. Extend it to the reserved size. From here on every process counts that size against the limit, so two
//     writers cannot together exceed it while they fill their files.
//  3. Write records. This process may read them already, through its own descriptor.
//  4. Write the footer behind the records, and cut the file there. The footer's checksum covers itself, and
//  content
//     hashes cover the records, so that a file whose blocks a power failure lost is noticed.
//  5. If durability is asked for: fsync the file, before its name says that it is whole.
//  6. Rename to "<nonce>.segment". It is atomic: readers see all of it or nothing. A nonce is random and
//  never used
//     again, so nothing is ever replaced.
//  7. If durability is asked for: fsync the directory, so that the name survives. Only then is the caller
//  told.
//  8. Enter it in the index. After a death before this step, the next scan of the directory finds the
//  segment.
#include "cache/directory/open_segment.h"

#include <errno.h>
#include <fcntl.h>

namespace alnair {

std::unique_ptr<OpenSegment> OpenSegment::create(SegmentFiles& files, const SegmentNonce& nonce,
                                                 std::uint64_t node, DatasetTag dataset,
                                                 std::uint64_t reserved_bytes, bool direct, int& error) {
  std::unique_ptr<OpenSegment> segment(new OpenSegment(files, reserved_bytes));
  FileSystem& system = *files.files();
  const std::string name = open_segment_name(nonce, node);
  const int fd = system.open(files.path(name), O_RDWR | O_CREAT | O_EXCL);  // step 1
  if (fd < 0) {
    error = fd;
    return nullptr;
  }
  segment->name_ = name;
  segment->file_ = std::make_shared<File>(files.files(), fd);
  segment->footer_.nonce = nonce;
  segment->footer_.dataset = dataset;
  error = system.truncate(fd, reserved_bytes);  // step 2
  if (direct) segment->direct_ = DirectWrites::open(files.files(), files.path(name));
  auto head = segment_head();
  const iovec piece{head.data(), head.size()};
  if (error >= 0) error = segment->write({&piece, 1}, 0);
  return error < 0 ? nullptr : std::move(segment);
}

OpenSegment::~OpenSegment() {
  if (!name_.empty()) files_.files()->remove(files_.path(name_));
}

bool OpenSegment::fits(std::uint64_t chunks, std::uint64_t bytes) const {
  return footer_.records_end + segment_bytes(footer_.entries.size() + chunks, bytes) - kSegmentHeadBytes <=
         reserved_bytes_;
}

int OpenSegment::write(std::span<const iovec> pieces, std::uint64_t end) {
  if (direct_ != nullptr) {
    const int error = direct_->append(pieces);
    if (error != -EINVAL) return error;
    direct_.reset();  // this file system or disk wants other blocks
  }
  return files_.files()->write(file_->fd(), pieces, end);
}

int OpenSegment::append(std::span<const PutRequest* const> chunks) {  // step 3
  std::vector<iovec> pieces;
  static std::byte padding[16];
  for (const PutRequest* chunk : chunks) {
    const std::uint64_t size = chunk->bytes.size();
    pieces.push_back({const_cast<std::byte*>(chunk->bytes.data()), size});
    if (record_bytes(size) > size) pieces.push_back({padding, record_bytes(size) - size});
  }
  const int error = write(pieces, footer_.records_end);
  if (error < 0) return error;
  for (const PutRequest* chunk : chunks) {
    footer_.entries.push_back({chunk->hash, static_cast<std::uint32_t>(footer_.records_end),
                               static_cast<std::uint32_t>(chunk->bytes.size())});
    footer_.records_end += record_bytes(chunk->bytes.size());
  }
  return 0;
}

std::optional<SegmentFooter> OpenSegment::seal(bool durable, std::uint64_t& file_bytes, int& error) {
  FileSystem& system = *files_.files();
  std::vector<std::byte> footer = encode_footer(footer_);
  file_bytes = footer_.records_end + footer.size();
  // Cut first: it gives back what the reservation or a failed append took, which the footer may need on a
  // full disk.
  error = system.truncate(file_->fd(), footer_.records_end);
  const iovec piece{footer.data(), footer.size()};
  if (error >= 0) error = system.write(file_->fd(), {&piece, 1}, footer_.records_end);  // step 4
  if (error >= 0 && durable) error = system.sync(file_->fd());                          // step 5
  if (error >= 0)
    error = system.rename(files_.path(name_), files_.path(segment_name(footer_.nonce)));  // step 6
  if (error < 0) return std::nullopt;
  name_.clear();
  if (durable) {  // step 7
    const int directory = system.open(files_.directory(), O_RDONLY | O_DIRECTORY);
    error = directory < 0 ? directory : system.sync(directory);
    if (directory >= 0) system.close(directory);
    if (error < 0) return std::nullopt;
  }
  return std::move(footer_);
}

}  // namespace alnair
