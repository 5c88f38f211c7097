// credential_process: a command of the user's that prints credentials as JSON.
#pragma once

#include <chrono>
#include <string>

#include "s3/credentials/context.h"

namespace alnair {

// Runs `command` with /bin/sh and reads its answer (see `aws configure export-credentials --format process`).
// What it writes to stderr goes to ours. `position` says in messages where the command was configured. It is
// killed after `timeout`, or when `interrupt` throws. Throws ConfigError: it failed, or its answer is no such
// JSON.
LoadedCredentials run_credential_process(const std::string& command, const std::string& position,
                                         const Interrupt& interrupt,
                                         std::chrono::milliseconds timeout = std::chrono::seconds(60));

// What a process printed. Throws ConfigError, which quotes nothing of it.
LoadedCredentials parse_process_credentials(const std::string& json, const std::string& position);

}  // namespace alnair
