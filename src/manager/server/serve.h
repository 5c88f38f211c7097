// `alnair-manager serve`: runs a manager until a signal says to stop.
#pragma once

#include "manager/config/config.h"

namespace alnair::manager {

// Says on stdout where it listens, once it does ("alnair-manager: ready at http://127.0.0.1:50051"), and tells systemd.
// Returns the exit status. SIGTERM and SIGINT stop it within config.shutdown seconds. Throws ConfigError, CacheError.
int serve(const Config& config);

}  // namespace alnair::manager
