// Locks among all threads of all processes of a node, that die with their holder.
//
// A lock is one byte offset of one file, locked by a POSIX record lock (fcntl): the kernel releases it when
// its holder dies, even by SIGKILL, and a forked child does not inherit it. Record locks have two traps,
// which this class is there to close:
// - Closing *any* descriptor of the file drops all locks of the process. So a process opens a lock file once,
// and
//   never closes it (O_CLOEXEC apart); forked children go on using the descriptor. Nobody else may open the
//   file.
// - They do not exclude the threads of one process. So a table in the process says what it holds; a forked
// child begins
//   with an empty one.
//
// The file must lie on a local file system: node memory's directory. It holds no bytes.
// Thread safety: all functions may be called from any thread at once. None blocks, except wait_exclusive().
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "core/fork.h"

namespace alnair {

// What an offset stands for: each purpose has a range of 2^57 offsets of its own.
enum class LockPurpose : std::uint64_t {
  kAllocation,     // who makes, seals and evicts segments of node memory (index 0)
  kSegmentOwner,   // who appends to the segment in this slot
  kSegmentMapped,  // shared: who maps the segment in this slot
  kDatasetHold,    // shared: live jobs that use the dataset of this tag
  kSingleFlight,   // who fetches the chunk whose ChunkId begins like this
  kIndexGrowth,    // who adds a table to a shared index
  kDirectoryTier,  // for the directory tier's own use
  kRegistration,   // who finds out a dataset's version for a run
  kRequestSlot,    // who may have this one of the node's requests in flight
  kRequestWish,    // shared: who lacks request slots
  kFlusher,        // whose thread may be the flusher of the Redis with this name
  kLookAhead,      // the seat of a process that looks ahead
  kReader,         // shared: who reads through this node memory
};

constexpr std::uint64_t lock_offset(LockPurpose purpose, std::uint64_t index = 0) {
  constexpr std::uint64_t kIndexBits = 57;
  return static_cast<std::uint64_t>(purpose) << kIndexBits | (index & ((std::uint64_t{1} << kIndexBits) - 1));
}

class LockFile {
 public:
  // A held lock, released at the end of the scope. In a forked child, releasing an inherited one does
  // nothing.
  class Guard {
   public:
    Guard() = default;
    Guard(Guard&& other) noexcept { swap(other); }
    Guard& operator=(Guard&& other) noexcept {
      Guard(std::move(other)).swap(*this);
      return *this;
    }
    ~Guard() { release(); }
    explicit operator bool() const { return file_ != nullptr; }
    void release();

   private:
    friend class LockFile;
    Guard(LockFile* file, std::uint64_t offset)
        : file_(file), offset_(offset), generation_(fork_generation()) {}
    void swap(Guard& other) noexcept {
      std::swap(file_, other.file_);
      std::swap(offset_, other.offset_);
      std::swap(generation_, other.generation_);
    }

    LockFile* file_ = nullptr;
    std::uint64_t offset_ = 0;
    std::uint64_t generation_ = 0;
  };

  // Opens (or makes, mode 0600) the file. The result is the same object for the same file, and lives as long
  // as the process. Throws CacheError.
  static LockFile& open(const std::string& path);

  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  // false: someone else holds it, another thread of this process (or this one) included. Exclusive locks do
  // not nest.
  bool try_lock_exclusive(std::uint64_t offset);
  // false: someone holds it exclusively. Each success needs its own unlock().
  bool try_lock_shared(std::uint64_t offset);
  // Releases what this process holds; nothing if it holds nothing (a lock of its parent's).
  void unlock(std::uint64_t offset);

  // Whether anybody holds it, shared or exclusive; this process included.
  bool is_locked(std::uint64_t offset);
  bool is_locked_by_other_process(std::uint64_t offset);
  // Whether this process holds it once, and no other one does.
  bool is_only_holder(std::uint64_t offset);

  // Empty guards: not granted.
  Guard try_exclusive(std::uint64_t offset) {
    return try_lock_exclusive(offset) ? Guard(this, offset) : Guard();
  }
  Guard try_shared(std::uint64_t offset) { return try_lock_shared(offset) ? Guard(this, offset) : Guard(); }
  // Polls (F_SETLKW would see deadlocks where there are none, among threads). Not fair.
  Guard wait_exclusive(std::uint64_t offset, std::chrono::milliseconds timeout);

 private:
  struct Held {
    bool exclusive = false;
    std::uint32_t count = 0;
  };
  struct Table {
    std::mutex mutex;
    std::map<std::uint64_t, Held> held;
  };

  LockFile(int fd, std::uint64_t device, std::uint64_t inode) : fd_(fd), device_(device), inode_(inode) {}
  static LockFile* find_open(std::uint64_t device, std::uint64_t inode);

  const int fd_;
  const std::uint64_t device_, inode_;
  LockFile* next_ = nullptr;  // in the list of all lock files of this process
  ForkLocal<Table> table_{[] { return std::make_shared<Table>(); }};
};

}  // namespace alnair
