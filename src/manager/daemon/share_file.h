// What the daemon leaves for training scripts in /share: {job}.json, which says how far the registration is, and, once
// it is ready, {job}.manifest. Each is written whole under another name and renamed. The first holds the password of the job's
// user in Redis, and no other secret; {job}.password has that alone, for processes that go on when it changes.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "alnair/dataset/job_client.h"

namespace alnair::manager {

struct ShareOptions {
  std::string directory;
  mode_t mode = 0600;
  std::optional<uid_t> owner;  // of the files; else this process's
  std::optional<gid_t> group;
};

// Throws ConfigError that names the file and, where the owner cannot be changed, both users.
void write_share_files(const ShareOptions& options, const JobOptions& job, const ManagerOptions& manager,
                       const JobStatus& status);

// What a daemon that was killed has left of the job, for the next registration: its id, and how processes reach Redis.
void take_up(const ShareOptions& options, JobOptions& job);

void remove_share_files(const ShareOptions& options, const std::string& job);  // no matter whether they exist

// The state in the file; "": there is none (yet). Throws ConfigError: it cannot be read, and who could.
std::string shared_state(const std::string& directory, const std::string& job);

}  // namespace alnair::manager
