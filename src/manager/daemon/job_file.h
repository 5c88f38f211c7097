// Job files, /jobs/{job}.json, as the daemon reads them: field names in any case, values may be texts.
#pragma once

#include <string>

#include "alnair/dataset/job_client.h"

namespace alnair::manager {

// `name` is the file's, without ".json". Throws ConfigError that names the file and the field.
JobOptions read_job_file(const std::string& path, const std::string& name);

}  // namespace alnair::manager
