// Write-behind: fills the slower tiers behind the readers' backs.
//
// What node memory keeps may wait: it is read from there when it is written, as soon as no chunk has come for a moment,
// when much waits, or at flush(). So an epoch that fetches at full speed shares neither cores nor disk with the writing. What node
// memory does not keep, or may evict before long because it is nearly full, is written at once, from bytes that the filler holds
// meanwhile; find() has them, so that nothing needs to be fetched again because it is on its way to a disk.
//
// Thread safety: all methods may be called from any thread. The thread starts with the first chunk.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "alnair/cache/tier.h"

namespace alnair {

class Filler {
 public:
  struct Options {
    std::shared_ptr<Tier> memory;              // where chunks without bytes are read from; may be null
    std::vector<std::shared_ptr<Tier>> tiers;  // each chunk goes to every one
    std::uint64_t limit = 0;                   // bytes that wait outside of node memory, at most
    std::uint64_t patient_limit = 0;  // bytes that wait in node memory, at most; written from three quarters of it on
    std::chrono::milliseconds flush_after{5000};  // without a chunk: the tiers are flushed, for other processes to read
  };
  explicit Filler(Options options);
  ~Filler();  // writes what is queued

  // Queues a chunk; `in_memory`: node memory keeps it. False: the queue is full, or the tiers have just refused chunks of its
  // dataset; it was not taken, and will be fetched again one day.
  bool add(PutRequest request, bool in_memory);

  // A chunk that the filler holds the bytes of, because it is in no tier yet.
  std::optional<View> find(const ContentHash& hash) const;

  // True when a queue is nearly full: whoever fetches ahead should wait.
  bool behind() const;

  // Blocks until everything queued before the call is written and the tiers are flushed.
  void flush();

 private:
  using Clock = std::chrono::steady_clock;
  struct Chunk {
    std::uint64_t number;
    PutRequest request;
    std::uint64_t size;  // a patient request has no bytes
  };
  struct Queue {
    std::deque<Chunk> chunks;  // until they are written
    std::uint64_t bytes = 0;
    bool has_room(std::uint64_t size, std::uint64_t limit) const { return bytes == 0 || bytes + size <= limit; }
    bool has_before(std::uint64_t number) const { return !chunks.empty() && chunks.front().number < number; }
  };

  bool start();  // the thread, if need be, with mutex_ held; false: the system refuses it
  void run();
  bool due() const;  // with mutex_ held: something is to be written now
  bool much_waits() const { return patient_.bytes > (crowded_ ? 0 : options_.patient_limit / 4 * 3); }
  bool is_crowded(std::uint64_t more);  // whether node memory is, with `more` bytes
  Queue& next_queue();
  void write_batch(Queue& queue, std::unique_lock<std::mutex>& lock);
  void take_from_memory(std::vector<PutRequest>& batch) const;
  bool put(const std::vector<PutRequest>& batch);  // false: all tiers refused all of it

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // for the thread
  std::condition_variable written_;  // for flush()
  Queue urgent_, patient_;
  std::unordered_map<ContentHash, View> held_;
  std::atomic<bool> crowded_{false};
  std::atomic<std::uint64_t> uncounted_{~std::uint64_t{0} / 2};  // bytes since node memory was asked how full it is
  std::uint64_t next_number_ = 0;
  Clock::time_point last_add_;
  std::size_t refused_in_a_row_ = 0;
  DatasetTag refused_dataset_ = 0;
  Clock::time_point refused_until_{};
  int flushing_ = 0;
  bool unflushed_ = false;  // something was written since the tiers were flushed
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace alnair
