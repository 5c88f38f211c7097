// This host: which file systems are its own, and its name. Only on a local one may SQLite map shared memory, and only
// there is one file safe for several hosts' processes (there are none).
#pragma once

#include <string>

namespace alnair {

// True for the file systems that are known to be local. Unknown ones count as network file systems.
bool is_local_file_system(const std::string& directory);

// This host's name, as a part of a file name.
std::string host_name();

}  // namespace alnair
