#include "cache/directory/directory_share.h"

#include <fmt/format.h>

#include <cstring>

namespace alnair {

DirectoryShare::DirectoryShare(const std::string& node_directory, const std::string& directory)
    : locks_(&LockFile::open(node_directory + "/directories.lock")) {
  const std::uint64_t name = checksum64(std::as_bytes(std::span(directory.data(), directory.size())));
  directory_id_ = name & 0xffffffff;
  prefix_ = fmt::format("{}/directory-{:016x}-v1-", node_directory, name);
}

DirectoryShare::Change DirectoryShare::change(std::chrono::milliseconds timeout) const {
  if (!shared()) return {true, {}};
  LockFile::Guard guard = locks_->wait_exclusive(offset(1), timeout);
  const bool granted = static_cast<bool>(guard);
  return {granted, std::move(guard)};
}

DirectoryShare::Change DirectoryShare::merging() const {
  LockFile::Guard guard = shared() ? locks_->try_exclusive(offset(4)) : LockFile::Guard();
  const bool granted = !shared() || guard;
  return {granted, std::move(guard)};
}

std::uint64_t DirectoryShare::owner_offset(const SegmentNonce& nonce) {
  std::uint64_t word;
  std::memcpy(&word, nonce.data(), sizeof word);
  return lock_offset(LockPurpose::kDirectoryTier, std::uint64_t{1} << 56 | word >> 8);
}

LockFile::Guard DirectoryShare::own(const SegmentNonce& nonce) const {
  return shared() ? locks_->try_exclusive(owner_offset(nonce)) : LockFile::Guard();
}

bool DirectoryShare::is_owned(const SegmentNonce& nonce) const {
  return !shared() || locks_->is_locked(owner_offset(nonce));
}

void DirectoryShare::hold(DatasetTag dataset) {
  if (shared()) {
    locks_->try_lock_shared(lock_offset(LockPurpose::kDatasetHold, dataset));
    return;
  }
  std::lock_guard lock(mutex_);
  held_.insert(dataset);
}

void DirectoryShare::release(DatasetTag dataset) {
  if (shared()) {
    locks_->unlock(lock_offset(LockPurpose::kDatasetHold, dataset));
    return;
  }
  std::lock_guard lock(mutex_);
  if (const auto found = held_.find(dataset); found != held_.end()) held_.erase(found);
}

bool DirectoryShare::is_held(DatasetTag dataset) const {
  if (shared()) return locks_->is_locked(lock_offset(LockPurpose::kDatasetHold, dataset));
  std::lock_guard lock(mutex_);
  return held_.contains(dataset);
}

}  // namespace alnair
