// The manager's log: lines on stderr, each written at once, as text or as JSON objects.
#pragma once

namespace alnair::manager {

// From now on for the whole process. The level is ALNAIR_LOG's, info where that is not set.
void start_log(bool json);

}  // namespace alnair::manager
