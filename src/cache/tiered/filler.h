// Write-behind: fills the slower tiers behind the readers' backs.
//
// What node memory keeps may wait: it is read from there when it is written, as soon as no chunk has come for a moment,
// when much waits, or at flush(). So an epoch that fetches at full speed shares neither cores nor disk with the writing. What node
// memory does not keep is written at once.
//
// Thread safety: all methods may be called from any thread. The thread starts with the first chunk.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "alnair/cache/tier.h"

namespace alnair {

class Filler {
 public:
  struct Options {
    std::shared_ptr<Tier> memory;              // where chunks without bytes are read from; may be null
    std::vector<std::shared_ptr<Tier>> tiers;  // each chunk goes to every one
    std::uint64_t limit = 0;                   // bytes that wait outside of node memory, at most
    std::uint64_t patient_limit = 0;           // bytes that wait in node memory, at most; written from half of it on
  };
  explicit Filler(Options options);
  ~Filler();  // writes what is queued

  // Queues a chunk; `in_memory`: node memory keeps it. False: the queue is full, and the chunk was not taken (it will be
  // fetched again one day).
  bool add(PutRequest request, bool in_memory);

  // True when a queue is nearly full: whoever fetches ahead should wait.
  bool behind() const;

  // Blocks until everything queued before the call is written and the tiers are flushed.
  void flush();

 private:
  using Clock = std::chrono::steady_clock;
  struct Chunk {
    PutRequest request;
    std::uint64_t size;  // a patient request has no bytes
  };
  struct Queue {
    std::deque<Chunk> chunks;
    std::uint64_t bytes = 0;  // of the chunks, until they are written
  };

  bool start();  // the thread, if need be, with mutex_ held; false: the system refuses it
  void run();
  bool due() const;  // with mutex_ held: something is to be written now
  void write_batch(Queue& queue, std::unique_lock<std::mutex>& lock);

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // for the thread
  std::condition_variable written_;  // for flush()
  Queue urgent_, patient_;
  std::size_t unwritten_ = 0;  // chunks, queued or being written
  Clock::time_point last_add_;
  int flushing_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace alnair
