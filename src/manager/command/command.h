// What `alnair-manager ARGUMENT...` does.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace alnair::manager {

// The arguments make no command: exit status 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Returns the exit status. Throws UsageError, and Error for what fails.
int run_command(const std::vector<std::string>& arguments);

}  // namespace alnair::manager
