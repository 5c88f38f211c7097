// Tells a manager's daemon what this process and its children have read, every few seconds, for the heartbeats of the job.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace alnair {

// As heartbeats carry it: {"counters": {...}} of alnair::stats(), without zeros and latencies. Empty: nothing has been read.
nlohmann::json use_of_this_process();

// Thread-safe. A forked child of its process sends nothing: its counters are its parent's, too.
class UseReporter {
 public:
  // Starts a thread. `socket`: the daemon's; where nobody answers there it is tried again.
  static std::shared_ptr<UseReporter> start(const std::string& socket);
  virtual ~UseReporter() = default;  // as close()

  // Tells it once more, and ends the thread. Idempotent; never throws.
  virtual void close() = 0;
};

}  // namespace alnair
