#include "cache/directory/segment_files.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "core/random.h"
#include "core/log.h"

namespace alnair {
namespace {

// Enough to tell that a place in the index is out of date; the content hash decides in the end.
std::uint32_t hash_prefix(const ContentHash& hash) {
  std::uint32_t word;
  std::memcpy(&word, hash.bytes.data() + 16, sizeof word);
  return word;
}

}  // namespace

SegmentNonce random_nonce() {
  const std::uint64_t words[2] = {random_word(), random_word()};
  SegmentNonce nonce;
  std::memcpy(nonce.data(), words, sizeof words);
  return nonce;
}

SegmentFiles::SegmentFiles(std::string directory, std::shared_ptr<FileSystem> files, TierId id,
                           std::string name, std::size_t max_open)
    : directory_(std::move(directory)),
      files_(std::move(files)),
      id_(id),
      name_(std::move(name)),
      max_open_(max_open) {}

SegmentFile::SegmentFile(std::shared_ptr<File> file, const std::vector<SegmentEntry>& entries)
    : file_(std::move(file)) {
  chunks_.reserve(entries.size());
  for (const SegmentEntry& entry : entries)
    chunks_.push_back({entry.offset, entry.length, hash_prefix(entry.hash)});
  std::sort(chunks_.begin(), chunks_.end(),
            [](const Chunk& a, const Chunk& b) { return a.offset < b.offset; });
}

std::optional<std::uint32_t> SegmentFile::length_at(std::uint32_t offset, const ContentHash& hash) const {
  auto at = std::lower_bound(chunks_.begin(), chunks_.end(), offset,
                             [](const Chunk& chunk, std::uint32_t wanted) { return chunk.offset < wanted; });
  // An empty chunk shares its offset with the one behind it.
  for (; at != chunks_.end() && at->offset == offset; ++at) {
    if (at->prefix == hash_prefix(hash)) return at->length;
  }
  return std::nullopt;
}

std::shared_ptr<File> SegmentFiles::open_file(const SegmentNonce& nonce, int& error) {
  const int fd = files_->open(path(segment_name(nonce)), O_RDONLY);
  error = fd < 0 ? fd : 0;
  return fd < 0 ? nullptr : std::make_shared<File>(files_, fd);
}

std::shared_ptr<const SegmentFile> SegmentFiles::open(const SegmentNonce& nonce, int& error) {
  {
    std::lock_guard lock(mutex_);
    const auto found = open_.find(nonce);
    if (found != open_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
  }
  std::shared_ptr<File> file = open_file(nonce, error);
  if (file == nullptr) return nullptr;
  const std::optional<SegmentFooter> footer = read_footer(*file, nonce, error);
  if (!footer) return nullptr;
  auto segment = std::make_shared<const SegmentFile>(std::move(file), footer->entries);
  std::shared_ptr<const SegmentFile> closed;  // destroyed after the lock: close may block
  std::lock_guard lock(mutex_);
  if (open_.contains(nonce)) return segment;
  recent_.emplace_front(nonce, segment);
  open_.emplace(nonce, recent_.begin());
  if (open_.size() > max_open_) {
    open_.erase(recent_.back().first);
    closed = std::move(recent_.back().second);
    recent_.pop_back();
  }
  return segment;
}

bool SegmentFiles::is_there(const SegmentNonce& nonce) {
  const int fd = files_->open(path(segment_name(nonce)), O_RDONLY);
  if (fd >= 0) files_->close(fd);
  return fd >= 0;
}

void SegmentFiles::forget(const SegmentNonce& nonce) {
  std::shared_ptr<const SegmentFile> closed;
  std::lock_guard lock(mutex_);
  const auto found = open_.find(nonce);
  if (found == open_.end()) return;
  closed = std::move(found->second->second);
  recent_.erase(found->second);
  open_.erase(found);
}

std::optional<SegmentFooter> SegmentFiles::read_footer(const SegmentNonce& nonce, int& error) {
  const std::shared_ptr<File> file = open_file(nonce, error);
  return file == nullptr ? std::nullopt : read_footer(*file, nonce, error);
}

std::optional<SegmentFooter> SegmentFiles::read_footer(const File& file, const SegmentNonce& nonce,
                                                       int& error) {
  error = 0;
  const auto read_tail = [&](std::vector<std::byte>& tail, std::uint64_t size) {
    const iovec piece{tail.data(), tail.size()};
    const std::int64_t got = files_->read(file.fd(), {&piece, 1}, size - tail.size());
    error = got < 0 ? static_cast<int>(got) : 0;
    return got == static_cast<std::int64_t>(tail.size());
  };
  const std::int64_t size = files_->size(file.fd());
  if (size < 0) error = static_cast<int>(size);
  if (size < static_cast<std::int64_t>(kSegmentTrailerBytes)) return std::nullopt;
  // Most footers fit the first read.
  std::vector<std::byte> tail(std::min<std::uint64_t>(size, 64u << 10));
  if (!read_tail(tail, size)) return std::nullopt;
  const auto wanted = footer_bytes(std::span(tail).last(kSegmentTrailerBytes), size);
  if (!wanted) return std::nullopt;
  if (*wanted > tail.size()) {
    tail.resize(*wanted);
    if (!read_tail(tail, size)) return std::nullopt;
  }
  std::optional<SegmentFooter> footer = decode_footer(std::span(tail).last(*wanted));
  return footer && footer->nonce == nonce ? std::move(footer) : std::nullopt;
}

std::string SegmentFiles::identity(std::string_view file) {
  constexpr std::size_t kDigits = 32;
  const std::string whole = path(std::string(file));
  const auto read_it = [&]() -> std::string {
    const int fd = files_->open(whole, O_RDONLY);
    if (fd < 0) return "";
    const File opened(files_, fd);
    std::string text(kDigits, '\0');
    const iovec piece{text.data(), text.size()};
    return files_->read(fd, {&piece, 1}, 0) == std::int64_t{kDigits} ? text : "";
  };
  if (std::string text = read_it(); !text.empty()) return text;
  // Under another name first, and linked when it is whole and durable: nobody reads half of it, and nothing is replaced.
  std::string text = fmt::format("{:016x}{:016x}", random_word(), random_word());
  const std::string temporary = path(text + ".identity");
  const int fd = files_->open(temporary, O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0) return "";
  {
    const File opened(files_, fd);
    const iovec piece{text.data(), text.size()};
    if (files_->write(fd, {&piece, 1}, 0) == 0 && files_->sync(fd) >= 0) files_->link(temporary, whole);
  }
  files_->remove(temporary);
  return read_it();
}

int SegmentFiles::fault(int error, const char* what, const std::string& file) {
  metrics().add(id_, TierCounter::kFaults);
  bool first;
  {
    std::lock_guard lock(mutex_);
    first = logged_.insert(error).second;
  }
  if (first) {
    log(LogLevel::kWarning,
        "{} tier: cannot {} {}: {}. Such chunks are fetched from the source; further faults of this kind are "
        "only counted.",
        name_, what, path(file), std::generic_category().message(-error));
  }
  return error;
}

}  // namespace alnair
