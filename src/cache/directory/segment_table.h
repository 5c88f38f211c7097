// The segments of one directory that are known, and when each was used last: one table, shared by the
// processes of a node (a file in node memory) or private to one.
//
// Any process may be killed at any instant: a slot counts from the moment its sequence number is even and not
// 0, so what a killed process left half-written is a free slot. Readers take no lock; writers (add, remove)
// exclude each other by a lock of the caller's, which dies with its holder.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/directory/segment_format.h"

namespace alnair {

struct KnownSegment {
  SegmentNonce nonce{};
  DatasetTag dataset = 0;
  std::uint64_t bytes = 0;  // of its file
  std::uint64_t chunks = 0;
  std::int64_t created_ns = 0;  // since 1970
  std::int64_t last_used_ns = 0;
};

class SegmentTable {
 public:
  // What the processes that share a table tell each other.
  struct Shared {
    std::atomic<std::uint64_t> node;         // a random number: this table's own
    std::atomic<std::uint64_t> limit_bytes;  // recorded by the first of the processes; 0: the default
    std::atomic<std::uint64_t> policy;       // recorded too: an EvictionPolicy
    std::atomic<std::int64_t> scanned;       // 1: the directory was scanned once
    std::atomic<std::int64_t>
        settled;  // its modification time at a scan that no later change can hide behind
    std::atomic<std::uint64_t> next_slot;  // where to look for a free slot
    std::atomic<std::uint64_t> lost;       // 1: the index had no room for some chunks
  };

  explicit SegmentTable(std::uint32_t slots);  // private to this process
  // Shared: opens the file, or makes it with this many slots. Throws CacheError. Only one process at a time
  // may do so.
  SegmentTable(const std::string& path, std::uint32_t slots);
  SegmentTable(const SegmentTable&) = delete;
  SegmentTable& operator=(const SegmentTable&) = delete;
  ~SegmentTable();

  Shared& shared() const { return *shared_; }
  std::uint32_t slots() const { return slot_count_; }

  std::optional<KnownSegment> get(std::uint32_t slot) const;
  void mark_used(std::uint32_t slot, std::int64_t now_ns);
  std::vector<std::pair<std::uint32_t, KnownSegment>> all() const;
  bool knows(const SegmentNonce& nonce) const;

  // Takes a slot, which counts only once it is published. nullopt: the table is full.
  std::optional<std::uint32_t> reserve(const KnownSegment& info);
  void publish(std::uint32_t slot);
  void remove(std::uint32_t slot);

 private:
  struct Slot;
  void map(int fd, std::uint64_t bytes);

  std::uint32_t slot_count_ = 0;
  std::uint64_t bytes_ = 0;
  Shared* shared_ = nullptr;  // in front of the slots
  Slot* table_ = nullptr;
};

}  // namespace alnair
