// `alnair-manager client`: the daemon beside training containers.
#pragma once

#include <string>

#include "manager/daemon/share_file.h"

namespace alnair::manager {

struct DaemonOptions {
  std::string secret_file = "/secret/client.conf";
  std::string jobs_directory = "/jobs";
  ShareOptions share{.directory = "/share"};
  std::string node;  // in the manager's lists; empty: this host's name
};

// Registers each job of the directory, now and when one appears or changes there; keeps /share up to date; deregisters
// those that disappear. Runs until SIGTERM or SIGINT, then deregisters all and removes its files. Returns the exit
// status. Throws ConfigError: the secret is unusable, a directory is missing.
int run_daemon(const DaemonOptions& options);

// Waits until the daemon says that `job` is ready: 0; 1 if that takes more than `patience_s` seconds.
int wait_ready(const std::string& share_directory, const std::string& job, double patience_s);

}  // namespace alnair::manager
