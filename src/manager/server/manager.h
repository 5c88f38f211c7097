// A running manager: everything that `alnair-manager serve` is made of, for one configuration.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "manager/config/config.h"

namespace alnair::manager {

class Manager {
 public:
  // Opens the state directory, goes on with what was in progress, listens. Throws ConfigError, CacheError.
  static std::unique_ptr<Manager> start(const Config& config);
  virtual ~Manager() = default;  // as stop()

  virtual std::uint16_t port() const = 0;
  // Stops accepting, answers what has arrived, ends listings (they are begun again at the next start). Waits up to
  // `deadline` for answers to be sent.
  virtual void stop(std::chrono::milliseconds deadline) = 0;
};

}  // namespace alnair::manager
