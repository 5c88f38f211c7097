// Write-behind: fills the slower tiers behind the readers' backs.
//
// Thread safety: all methods may be called from any thread. The thread starts with the first chunk.
#pragma once

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
  // At most `limit` bytes wait; each chunk goes to every tier of `tiers`.
  Filler(std::vector<std::shared_ptr<Tier>> tiers, std::uint64_t limit);
  ~Filler();  // writes what is queued

  // Queues a chunk. False: the queue is full, and the chunk was not taken (it will be fetched again one day).
  bool add(PutRequest request);

  // True while the queue is more than half full: whoever fetches ahead should wait.
  bool behind() const;

  // Blocks until everything queued before the call is written and the tiers are flushed.
  void flush();

 private:
  void run();

  const std::vector<std::shared_ptr<Tier>> tiers_;
  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PutRequest> queue_;
  std::uint64_t queued_bytes_ = 0;  // of the queue and of what is being written
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace alnair
