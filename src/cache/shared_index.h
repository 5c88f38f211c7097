// The index from content hashes to places in segments, shared by all processes of a node.
//
// It is a hint and no more. Each entry is one atomic 64-bit word, so there is no lock that a killed process
// could hold, and no half-written entry. A wrong, lost or stale entry is only a miss: the record that it
// leads to carries its own hash and checksum, and the caller checks them.
//
// On disk: tables `<prefix>-0`, `<prefix>-1`..., each twice as large as the one before. A table is a 64-byte
// header and buckets of eight words; an entry is in one of two buckets. A word is
//   bits 41..63  tag: 23 bits of the content hash
//   bit  40      mark: for the caller's use (a chunk that was read, or consumed)
//   bits 22..39  segment id
//   bits 0..21   offset in the segment, in units of 16 bytes; never 0, so that 0 is a free word
// About 9 bytes an entry when full, 16 to 27 while growing.
//
// Thread safety: all methods may be called from any thread at once, and in forked children.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "alnair/core/hash.h"
#include "cache/lock_file.h"

namespace alnair {

// A place in a segment.
struct Location {
  std::uint32_t segment = 0;  // id, below 2^18
  std::uint32_t offset = 0;   // bytes: a multiple of 16, not 0, below 64 MiB
  bool operator==(const Location&) const = default;
};

class SharedIndex {
 public:
  static constexpr std::uint32_t kSegmentIds = 1u << 18;

  // Opens the tables that exist; makes the first if there is none. Damaged tables are replaced by empty ones.
  // Throws CacheError if there is no room, or the directory is not writable.
  //   first_entries: capacity of the first table; max_bytes: of all tables together.
  //   growth_lock: held (in `locks`) by who adds a table.
  SharedIndex(std::string prefix, std::uint64_t first_entries, std::uint64_t max_bytes, LockFile& locks,
              std::uint64_t growth_lock);
  ~SharedIndex();
  SharedIndex(const SharedIndex&) = delete;
  SharedIndex& operator=(const SharedIndex&) = delete;

  // Calls `visit(Location)` for each entry that may be the hash's, until it returns true. Returns whether it
  // did.
  template <typename Visit>
  bool find(const ContentHash& hash, Visit&& visit) const {
    return find_word(
        hash, [&](const std::atomic<std::uint64_t>&, std::uint64_t word) { return visit(location(word)); });
  }

  // Adds an entry. The word of an entry whose segment `is_stale(id)` may be taken for it. Adds a table when
  // the others are full; false if that fails or max_bytes is reached.
  using IsStale = std::function<bool(std::uint32_t segment)>;
  bool insert(const ContentHash& hash, Location place, const IsStale& is_stale);

  // Forgets the entry; whether it was there.
  bool erase(const ContentHash& hash, Location place);

  // Sets the entry's mark; true if the entry is there and had none.
  bool mark(const ContentHash& hash, Location place);
  bool is_marked(const ContentHash& hash, Location place) const;

  std::uint64_t bytes() const;       // of all tables
  std::uint64_t next_bytes() const;  // of the file that the next table will be; 0: there will be none
  int tables() const { return count_.load(std::memory_order_acquire); }

 private:
  struct Header;
  struct Table {
    Header* header = nullptr;
    std::atomic<std::uint64_t>* words = nullptr;
    std::uint64_t bucket_mask = 0;
    std::uint64_t bytes = 0;
    std::atomic<std::uint64_t>* bucket(std::uint64_t hash, int choice) const {
      return words + ((choice == 0 ? hash : hash >> 32) & bucket_mask) * kBucketWords;
    }
  };
  static constexpr int kBucketWords = 8;
  static constexpr int kMaxTables = 24;
  static constexpr std::uint64_t kMark = std::uint64_t{1} << 40;

  static std::uint64_t tag(const ContentHash& hash) {
    std::uint64_t word;
    std::memcpy(&word, hash.bytes.data() + 8, sizeof word);
    return word >> 41;
  }
  static Location location(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 22 & (kSegmentIds - 1)),
            static_cast<std::uint32_t>(word & 0x3fffff) << 4};
  }
  static std::uint64_t make_word(const ContentHash& hash, Location place) {
    return tag(hash) << 41 | static_cast<std::uint64_t>(place.segment) << 22 | place.offset >> 4;
  }

  // Newest table first: it is the largest.
  template <typename Visit>
  bool find_word(const ContentHash& hash, Visit&& visit) const {
    const std::uint64_t wanted = tag(hash), key = first64(hash);
    for (int t = newest() - 1; t >= 0; --t) {
      for (int choice = 0; choice < 2; ++choice) {
        std::atomic<std::uint64_t>* bucket = tables_[t].bucket(key, choice);
        for (int i = 0; i < kBucketWords; ++i) {
          const std::uint64_t word = bucket[i].load(std::memory_order_acquire);
          if (word >> 41 == wanted && word != 0 && visit(bucket[i], word)) return true;
        }
      }
    }
    return false;
  }

  int newest() const;  // count of tables, after opening those that other processes have added
  std::uint64_t words_of(int index) const { return first_entries_ << index; }
  bool may_add(int index) const;  // whether all tables up to this one may exist
  bool insert_into(const Table& table, std::uint64_t key, std::uint64_t word, const IsStale& is_stale);
  bool open_table(int index) const;
  bool make_table(int index);
  bool grow(int full);
  std::string path(int index) const { return prefix_ + "-" + std::to_string(index); }

  const std::string prefix_;
  const std::uint64_t first_entries_, max_bytes_;
  LockFile& locks_;
  const std::uint64_t growth_lock_;
  mutable std::array<Table, kMaxTables> tables_;  // [i] is set once, before count_ exceeds i
  mutable std::atomic<int> count_{0};
  mutable std::atomic<bool> opening_{false};
};

}  // namespace alnair
