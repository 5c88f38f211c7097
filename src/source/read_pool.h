// A few threads that run blocking reads, in order of submission.
//
// Thread safety: all methods may be called from any thread at once. Not to be used in a forked child: keep
// pools in a ForkLocal.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "alnair/source/object_source.h"

namespace alnair {

class ReadPool {
 public:
  // A thread is started when work waits and fewer than `max_threads` run.
  explicit ReadPool(int max_threads);
  // Ends what is queued with CancelledError, and what runs as soon as it looks at `cancelled`.
  ~ReadPool();
  ReadPool(const ReadPool&) = delete;
  ReadPool& operator=(const ReadPool&) = delete;

  // Reads the bytes or throws; looks at `cancelled` now and then and throws CancelledError when it is set.
  using Work = std::function<View(const std::atomic<bool>& cancelled)>;

  // Runs `work` on a thread of the pool and hands its outcome to `done`, exactly once.
  std::shared_ptr<PendingRead> submit(Work work, ReadDone done);

 private:
  struct State;
  class Job;
  static void run(const std::shared_ptr<State>& state);
  static void end_cancelled(Job& job);

  const std::shared_ptr<State> state_;
};

}  // namespace alnair
