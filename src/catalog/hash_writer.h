// A bounded queue of hash records and the one thread that writes them in batches. The thread starts with the
// first record.
//
// Batches are large (seconds, or tens of thousands of records) because ids are random: a small batch would
// rewrite as many pages of the table as a large one.
//
// Thread safety: all methods may be called from any thread of the process that made it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "alnair/catalog/catalog.h"

namespace alnair {

class HashWriter {
 public:
  // `write` stores a batch, sorted by id with distinct ids, on the writer's thread; it must not throw.
  explicit HashWriter(std::function<void(std::span<const HashRecord>)> write) : write_(std::move(write)) {}
  ~HashWriter();  // writes what is queued
  HashWriter(const HashWriter&) = delete;
  HashWriter& operator=(const HashWriter&) = delete;

  // Returns how many records found no room although the caller waited for it, for a moment.
  std::size_t add(std::span<const HashRecord> records);

  // Waits until all that was added before is written (or was lost), for at most 30 seconds.
  void flush();

 private:
  void run();

  const std::function<void(std::span<const HashRecord>)> write_;
  std::mutex mutex_;
  std::condition_variable wake_;     // the writer
  std::condition_variable written_;  // those who wait for it
  std::vector<HashRecord> queue_;
  std::uint64_t added_ = 0;  // records, since the beginning
  std::uint64_t done_ = 0;
  std::uint64_t wanted_ = 0;  // flush() waits for done_ to reach it
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace alnair
