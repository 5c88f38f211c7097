#include "cache/lock_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "alnair/core/error.h"

namespace alnair {
namespace {

// All lock files that this process has opened. A list without a mutex: a forked child could inherit one
// locked.
std::atomic<LockFile*> g_open_files{nullptr};

struct flock record_lock(short type, std::uint64_t offset) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = 1;
  return lock;
}

bool set_lock(int fd, short type, std::uint64_t offset) {
  struct flock lock = record_lock(type, offset);
  return fcntl(fd, F_SETLK, &lock) == 0;
}

}  // namespace

LockFile* LockFile::find_open(std::uint64_t device, std::uint64_t inode) {
  for (LockFile* file = g_open_files.load(std::memory_order_acquire); file != nullptr; file = file->next_)
    if (file->device_ == device && file->inode_ == inode) return file;
  return nullptr;
}

// 1. stat() before open(): a second descriptor of a known file must not come to be, as it could never be
// closed.
// 2. Where two threads open a file at once, or it was replaced after step 1, the loser's descriptor is left
// open for
//    ever: closing it would drop the winner's locks. A known file cannot be confused with another: its inode
//    number is not given out again while the descriptor is open.
LockFile& LockFile::open(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0)
    if (LockFile* file = find_open(status.st_dev, status.st_ino)) return *file;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 || fstat(fd, &status) != 0)
    throw CacheError(fmt::format("cannot open the lock file {}: {}", path, std::strerror(errno)));
  auto* fresh = new LockFile(fd, status.st_dev, status.st_ino);
  LockFile* head = g_open_files.load(std::memory_order_acquire);
  do {
    if (LockFile* file = find_open(status.st_dev, status.st_ino)) {
      delete fresh;  // not the descriptor
      return *file;
    }
    fresh->next_ = head;
  } while (!g_open_files.compare_exchange_strong(head, fresh, std::memory_order_acq_rel));
  return *fresh;
}

bool LockFile::try_lock_exclusive(std::uint64_t offset) {
  const auto table = table_.get();
  const std::lock_guard guard(table->mutex);
  if (table->held.contains(offset) || !set_lock(fd_, F_WRLCK, offset)) return false;
  table->held.emplace(offset, Held{true, 1});
  return true;
}

bool LockFile::try_lock_shared(std::uint64_t offset) {
  const auto table = table_.get();
  const std::lock_guard guard(table->mutex);
  if (const auto held = table->held.find(offset); held != table->held.end()) {
    if (held->second.exclusive) return false;
    ++held->second.count;
    return true;
  }
  if (!set_lock(fd_, F_RDLCK, offset)) return false;
  table->held.emplace(offset, Held{false, 1});
  return true;
}

void LockFile::unlock(std::uint64_t offset) {
  const auto table = table_.get();
  const std::lock_guard guard(table->mutex);
  const auto held = table->held.find(offset);
  if (held == table->held.end() || --held->second.count > 0) return;
  set_lock(fd_, F_UNLCK, offset);
  table->held.erase(held);
}

bool LockFile::is_locked(std::uint64_t offset) {
  {
    const auto table = table_.get();
    const std::lock_guard guard(table->mutex);
    if (table->held.contains(offset)) return true;
  }
  return is_locked_by_other_process(offset);
}

bool LockFile::is_locked_by_other_process(std::uint64_t offset) {
  struct flock lock = record_lock(F_WRLCK, offset);
  // When the kernel cannot tell, "locked" is the safe answer: nothing is thrown away.
  return fcntl(fd_, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

bool LockFile::is_only_holder(std::uint64_t offset) {
  {
    const auto table = table_.get();
    const std::lock_guard guard(table->mutex);
    const auto held = table->held.find(offset);
    if (held == table->held.end() || held->second.count != 1) return false;
  }
  return !is_locked_by_other_process(offset);
}

LockFile::Guard LockFile::wait_exclusive(std::uint64_t offset, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (auto pause = std::chrono::microseconds(20);;
       pause = std::min(pause * 2, std::chrono::microseconds(2000))) {
    if (Guard guard = try_exclusive(offset)) return guard;
    if (std::chrono::steady_clock::now() >= deadline) return {};
    std::this_thread::sleep_for(pause);
  }
}

void LockFile::Guard::release() {
  if (file_ != nullptr && generation_ == fork_generation()) file_->unlock(offset_);
  file_ = nullptr;
}

}  // namespace alnair
