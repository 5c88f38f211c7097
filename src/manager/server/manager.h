// A running manager: everything that `alnair-manager serve` is made of, for one configuration.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "manager/config/config.h"
#include "manager/records/records.h"

namespace alnair::manager {

// What the configuration names, as open_sqlite_records() and open_mongodb_records() open it.
std::unique_ptr<Records> open_records(const Config& config, const std::string& directory, const Patience& patience);

class Manager {
 public:
  // Opens the state directory, goes on with what was in progress, listens. Where config.standby says so, waits with
  // `patience` while another manager has the records, and answers /healthz meanwhile. Throws ConfigError, CacheError.
  static std::unique_ptr<Manager> start(const Config& config, const Patience& patience = {});
  virtual ~Manager() = default;  // as stop()

  virtual std::uint16_t port() const = 0;
  virtual bool lost() const = 0;  // another manager has taken over: this one has sent its process SIGTERM
  // Stops accepting, answers what has arrived, ends listings (they are begun again at the next start). Waits up to
  // `deadline` for answers to be sent.
  virtual void stop(std::chrono::milliseconds deadline) = 0;
};

}  // namespace alnair::manager
