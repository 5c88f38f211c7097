// The manager's log: lines on stderr, each written at once, as text or as JSON objects.
#pragma once

#include <string>

namespace alnair::manager {

// From now on for the whole process. The level is ALNAIR_LOG's, info where that is not set.
void start_log(bool json);

// As long as it lives, lines that this thread logs are of that request: they have its id in a field of their own.
class LogOfRequest {
 public:
  explicit LogOfRequest(const std::string& id);
  ~LogOfRequest();
  LogOfRequest(const LogOfRequest&) = delete;
  LogOfRequest& operator=(const LogOfRequest&) = delete;
};

}  // namespace alnair::manager
