#include "cache/shared_index.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "core/bus_guard.h"

namespace alnair {
namespace {

constexpr std::uint64_t kTableMagic = 0x3178646e726e6c61;  // "alnrndx1"
constexpr std::chrono::milliseconds kGrowthTimeout{1000};
constexpr std::uint64_t kPage = 4096;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);

}  // namespace

struct SharedIndex::Header {
  std::uint64_t magic;
  std::uint64_t words;
  std::atomic<std::uint64_t> grown;  // a larger table exists
  std::uint64_t reserved[5];
};

SharedIndex::SharedIndex(std::string prefix, std::uint64_t first_entries, std::uint64_t max_bytes,
                         LockFile& locks, std::uint64_t growth_lock)
    : prefix_(std::move(prefix)),
      first_entries_(std::bit_ceil(std::max<std::uint64_t>(first_entries, kBucketWords))),
      max_bytes_(max_bytes),
      locks_(locks),
      growth_lock_(growth_lock) {
  static_assert(sizeof(Header) == 64);
  while (count_ < kMaxTables && open_table(count_)) ++count_;
  if (count_ > 0 || grow(0)) return;
  throw CacheError(fmt::format("cannot make the index {}: {}", path(0), std::strerror(errno)));
}

SharedIndex::~SharedIndex() {
  for (const Table& table : tables_) {
    if (table.header == nullptr) continue;
    unguard_mapping(table.header);
    munmap(table.header, table.bytes);
  }
}

std::uint64_t SharedIndex::bytes() const {
  std::uint64_t total = 0;
  for (int t = 0; t < newest(); ++t) total += tables_[t].bytes;
  return total;
}

std::uint64_t SharedIndex::next_bytes() const {
  const int next = newest();
  if (!may_add(next)) return 0;
  return (sizeof(Header) + words_of(next) * sizeof(std::uint64_t) + kPage - 1) / kPage * kPage;
}

bool SharedIndex::may_add(int index) const {
  if (index == 0) return true;
  const auto tables = static_cast<std::uint64_t>(index) + 1;
  return index < kMaxTables && sizeof(Header) * tables + (words_of(index + 1) - first_entries_) * 8 <= max_bytes_;
}

int SharedIndex::newest() const {
  int count = count_.load(std::memory_order_acquire);
  while (count > 0 && count < kMaxTables &&
         tables_[count - 1].header->grown.load(std::memory_order_relaxed) != 0) {
    if (opening_.exchange(true, std::memory_order_acquire)) break;  // another thread is at it
    count = count_.load(std::memory_order_acquire);
    const bool opened = count < kMaxTables && open_table(count);
    if (opened) count_.store(++count, std::memory_order_release);
    opening_.store(false, std::memory_order_release);
    if (!opened) break;
  }
  return count;
}

// Maps table `index` if it exists and is intact.
bool SharedIndex::open_table(int index) const {
  const int fd = ::open(path(index).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  const std::uint64_t words = words_of(index), bytes = sizeof(Header) + words * sizeof(std::uint64_t);
  struct stat status {};
  void* memory = MAP_FAILED;
  if (fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_size) == bytes)
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return false;
  guard_mapping(memory, bytes);  // zeros are free words
  auto* header = static_cast<Header*>(memory);
  if (header->magic != kTableMagic || header->words != words) {
    unguard_mapping(memory);
    munmap(memory, bytes);
    return false;
  }
  tables_[index] = {header, reinterpret_cast<std::atomic<std::uint64_t>*>(header + 1),
                    words / kBucketWords - 1, bytes};
  return true;
}

// Writes table `index`, empty, and gives it its name. The caller holds the growth lock.
bool SharedIndex::make_table(int index) {
  const std::uint64_t words = words_of(index), bytes = sizeof(Header) + words * sizeof(std::uint64_t);
  const std::string unfinished = prefix_ + "-new";
  unlink(unfinished.c_str());  // a killed process's
  const int fd = ::open(unfinished.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  const std::uint64_t start[2] = {kTableMagic, words};
  // posix_fallocate returns its error. Without it, a full file system would be a SIGBUS at some later store.
  int error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0 && pwrite(fd, start, sizeof start, 0) != sizeof start) error = errno;
  close(fd);
  if (error == 0 && rename(unfinished.c_str(), path(index).c_str()) == 0) return true;
  if (error == 0) error = errno;
  unlink(unfinished.c_str());
  errno = error;
  return false;
}

// Adds table number `full`, because `full` tables are not enough. Killed at any instant, this leaves a sound
// index:
// 1. Take the growth lock, so that one process at a time does this.
// 2. If the table exists by now, map it. (A damaged one is as good as absent: step 3 replaces it.)
// 3. Else write it under a temporary name and rename it: nobody sees half a table. A kill before the rename
// leaves a
//    file that the next one to come removes; a kill after it leaves what step 2 finds.
// 4. Set `grown` in the table before, where other processes see it at their next lookup.
bool SharedIndex::grow(int full) {
  const LockFile::Guard guard = locks_.wait_exclusive(growth_lock_, kGrowthTimeout);
  if (!guard) {
    errno = EAGAIN;
    return false;
  }
  while (opening_.exchange(true, std::memory_order_acquire)) {
  }  // held for the time of one mmap
  bool grown = count_.load(std::memory_order_acquire) > full;
  if (!grown && full < kMaxTables) {
    grown = open_table(full);
    if (!grown && may_add(full)) grown = make_table(full) && open_table(full);
    if (grown) {
      if (full > 0) tables_[full - 1].header->grown.store(1, std::memory_order_relaxed);
      count_.store(full + 1, std::memory_order_release);
    }
  }
  opening_.store(false, std::memory_order_release);
  return grown;
}

bool SharedIndex::insert(const ContentHash& hash, Location place, const IsStale& is_stale) {
  const std::uint64_t word = make_word(hash, place), key = first64(hash);
  for (;;) {
    const int count = newest();
    for (int t = count - 1; t >= 0; --t)
      if (insert_into(tables_[t], key, word, is_stale)) return true;
    if (!grow(count)) return false;
  }
}

// Takes a free word of the emptier bucket, else a stale one. Lost races for a word are tried again.
bool SharedIndex::insert_into(const Table& table, std::uint64_t key, std::uint64_t word,
                              const IsStale& is_stale) {
  for (int attempt = 0; attempt < 4; ++attempt) {
    std::atomic<std::uint64_t>* target = nullptr;
    std::uint64_t expected = 0;
    int most_free = 0;
    for (int choice = 0; choice < 2; ++choice) {
      std::atomic<std::uint64_t>* bucket = table.bucket(key, choice);
      int free_words = 0;
      std::atomic<std::uint64_t>* free_word = nullptr;
      for (int i = 0; i < kBucketWords; ++i) {
        if (bucket[i].load(std::memory_order_relaxed) != 0) continue;
        ++free_words;
        free_word = &bucket[i];
      }
      if (free_words > most_free) {
        most_free = free_words;
        target = free_word;
      }
    }
    for (int choice = 0; choice < 2 && target == nullptr; ++choice) {
      std::atomic<std::uint64_t>* bucket = table.bucket(key, choice);
      for (int i = 0; i < kBucketWords && target == nullptr; ++i) {
        expected = bucket[i].load(std::memory_order_relaxed);
        if (expected != 0 && is_stale(location(expected).segment)) target = &bucket[i];
      }
    }
    if (target == nullptr) return false;
    if (target->compare_exchange_strong(expected, word, std::memory_order_acq_rel)) return true;
  }
  return false;
}

bool SharedIndex::erase(const ContentHash& hash, Location place) {
  return find_word(hash, [&](std::atomic<std::uint64_t>& cell, std::uint64_t word) {
    return location(word) == place && (cell.compare_exchange_strong(word, 0, std::memory_order_acq_rel) ||
                                       (location(word) == place && cell.compare_exchange_strong(word, 0)));
  });
}

bool SharedIndex::mark(const ContentHash& hash, Location place) {
  bool marked = false;
  find_word(hash, [&](std::atomic<std::uint64_t>& cell, std::uint64_t word) {
    if (location(word) != place) return false;
    marked =
        (word & kMark) == 0 && cell.compare_exchange_strong(word, word | kMark, std::memory_order_acq_rel);
    return true;
  });
  return marked;
}

bool SharedIndex::is_marked(const ContentHash& hash, Location place) const {
  return find_word(hash, [&](const std::atomic<std::uint64_t>&, std::uint64_t word) {
    return location(word) == place && (word & kMark) != 0;
  });
}

}  // namespace alnair
