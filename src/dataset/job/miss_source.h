// The object source of a job without S3 credentials: it asks the daemon beside it, which asks the manager, which brings what is
// asked for into the tiers that all nodes share, or says where else it can be had.
//
// What is said on the daemon's socket is in daemon_socket.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "alnair/cache/tier.h"
#include "alnair/source/object_source.h"
#include "cache/directory/directory_tier.h"

namespace alnair {

struct MissSourceOptions {
  std::string identity;  // of the source that the manager reads
  std::string socket;    // path of the daemon's
  std::uint64_t chunk_size = 0;
  // Where the manager puts chunks, in this process; either may be null.
  std::function<std::pair<std::shared_ptr<Tier>, std::shared_ptr<DurableTier>>()> redis_and_directory;
};

// Lists nothing: its dataset is opened with a manifest. Survives fork().
std::shared_ptr<ObjectSource> open_miss_source(MissSourceOptions options);

}  // namespace alnair
