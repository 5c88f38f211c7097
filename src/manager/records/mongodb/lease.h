// Which of several managers may write to a database: the one that holds the lease, a document that it changes all the
// time.
//
// 1. Nobody's clock is compared with another's. Who waits watches the document; only when it has not changed for the
//    lease's whole length, by the watcher's own clock, it is taken, by an update that names what was seen, so that one of
//    several watchers gets it.
// 2. The holder writes only within a third of the length after the beginning of its last renewal. A write may take another
//    third (retries), and its last answer the rest: what was begun under a lease has ended before another can have it.
// 3. A database that was away for longer costs refused writes and no more: the renewal that goes through after that says
//    that nobody has taken the lease meanwhile.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "manager/records/mongodb/database.h"
#include "manager/records/state_lock.h"

namespace alnair::manager {

class MongoLease {
 public:
  // Takes the lease, waiting as open_mongodb_records() says. `holder`: an id that outlives this process, but that no
  // other process has while this one lives.
  MongoLease(MongoDatabase& database, std::string holder, std::chrono::milliseconds length, const Patience& patience);
  ~MongoLease();  // gives it back

  // Throws CacheError: it was not renewed in time, or another manager has it.
  void check() const;
  bool lost() const { return lost_; }

 private:
  using Clock = std::chrono::steady_clock;
  void acquire(const Patience& patience);
  bool take(const nlohmann::json& seen);  // empty: there was none
  void renew();

  MongoDatabase& database_;
  const std::string holder_;
  const std::chrono::milliseconds length_;
  std::atomic<Clock::time_point> renewed_{};  // when the last renewal began
  std::atomic<bool> lost_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace alnair::manager
