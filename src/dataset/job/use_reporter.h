// Tells a manager's daemon what this process and its children have read, every few seconds, for the heartbeats of the job.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "alnair/dataset/job_client.h"

namespace alnair {

// As heartbeats carry it: "counters" of alnair::stats(), without zeros and latencies, once anything has been read; and
// "tiers" of the node, once a dataset has been opened. May be empty. Waits for the disk, a few seconds at most.
nlohmann::json use_of_this_process();

// "tiers" of a report, and back. What is malformed is left out, and so is what is more than `most`: reports come from
// elsewhere.
nlohmann::json to_json(const std::vector<NodeTier>& tiers);
std::vector<NodeTier> node_tiers(const nlohmann::json& report, std::size_t most);

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
