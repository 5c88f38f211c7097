// Work over the chunks of whole datasets, in the background: copies them into the shared tiers (what is absent there or was
// modified, and nothing else), checks what is there, or takes it away. Those who ask for a copy of the same dataset while it is
// being copied share one. What a killed manager had copied is found in place.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "manager/cache/dataset_chunks.h"

namespace alnair::manager {

enum class Work { kCopy, kCheck, kEvict, kLook };
std::string to_string(Work work);  // "copy", "check", "evict", "look"
std::optional<Work> work_named(const std::string& name);

// Opens a dataset version in its domain's tiers; may wait and throw.
using OpenChunks = std::function<std::shared_ptr<DatasetChunks>()>;

struct CopyPlan {
  Work work = Work::kCopy;
  std::string prefix;             // of the keys; empty: all
  std::vector<std::string> keys;  // exactly these; empty: all
  std::uint64_t bytes_per_s = 0;  // of a copy; 0: as fast as it goes
  std::uint64_t most_bytes = UINT64_MAX;  // that a copy may leave cached of the dataset: its client's quota
  std::vector<OpenChunks> kept;   // datasets whose chunks are not evicted
};

// How far the work is, or how the last one on a dataset ended. Sizes are bytes.
struct CopyStatus {
  Work work = Work::kCopy;
  bool running = false;
  bool full = false;    // a copy ended because the tiers, or its client's quota, take no more
  std::string failure;  // it ended because of that; or why the last object that failed did
  bool broke_off = false;  // by that failure: it could not begin, or not go on
  std::uint64_t objects = 0;                          // looked at so far
  std::uint64_t redis_bytes = 0, directory_bytes = 0;  // of them, where they were found or put
  std::uint64_t total_objects = 0, total_bytes = 0;   // to be looked at; 0: not known yet
  std::uint64_t copied_bytes = 0;                     // that were not there before
  std::uint64_t failed_objects = 0;                   // that the source would not give
  std::uint64_t damaged_chunks = 0;                   // that a check found, and took away
  double elapsed_s = 0;
  bool whole = false;  // all of the dataset was looked at

  std::uint64_t cached_bytes() const { return redis_bytes + directory_bytes; }
};

class Copies {
 public:
  using Done = std::function<void(const CopyStatus&)>;

  explicit Copies(std::size_t threads);
  ~Copies();  // as stop()

  // Begins work on `dataset`, or joins what runs there if that is of the same kind, whatever its plan; `done` (may be empty)
  // runs once, on a thread of this object, unless stop() or forget() comes first. `waiter` names who asks.
  // False: work of another kind is going on.
  bool start(const std::string& dataset, const std::string& waiter, const CopyPlan& plan, OpenChunks open, Done done);
  // Work that nobody waits for any more is cancelled.
  void forget(const std::string& dataset, const std::string& waiter);
  void cancel(const std::string& dataset);  // whoever waits; their `done` runs with what there is

  // Of the work that goes on, else of the last one; nullopt: there was none in this manager's life.
  std::optional<CopyStatus> status(const std::string& dataset) const;
  std::uint64_t running() const;

  void stop();  // cancels all; no `done` runs after it has returned

 private:
  struct Copy;
  void work();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::map<std::string, std::shared_ptr<Copy>> copies_;  // waiting and running
  std::map<std::string, CopyStatus> ended_;
  std::deque<std::shared_ptr<Copy>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace alnair::manager
