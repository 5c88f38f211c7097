// Files of the state directory that hold secrets: mode 0600, and refused if anybody else could have read or written
// them.
#pragma once

#include <functional>
#include <string>

namespace alnair::manager {

// The file's first line; a file that is missing is made with what `make` returns. `what` names it in messages.
// Throws ConfigError: it is unreadable, empty, somebody else's, or open to others.
std::string secret_file(const std::string& path, const std::string& what, const std::function<std::string()>& make);

}  // namespace alnair::manager
