// alnair-manager: the one binary of a cluster's manager.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "alnair/core/error.h"
#include "manager/command/command.h"

int main(int argc, char** argv) {
  // libmongoc, once it is loaded, counts what it does in a file of shared memory, which a kill would leave behind for ever.
  shm_unlink(("/mongoc-" + std::to_string(getpid())).c_str());
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    return alnair::manager::run_command(arguments);
  } catch (const alnair::manager::UsageError& error) {
    std::fprintf(stderr, "alnair-manager: %s; see alnair-manager --help\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "alnair-manager: %s\n", error.what());
    return 1;
  }
}
