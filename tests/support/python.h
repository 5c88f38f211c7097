// Python programs beside the tests: oracles that are independent of our own code.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

namespace alnair::testing {

// The interpreter that ALNAIR_TEST_PYTHON names, or else python3, if it can import `module`; empty: it
// cannot.
inline std::string python_with(const std::string& module) {
  const char* named = std::getenv("ALNAIR_TEST_PYTHON");
  const std::string python = named == nullptr || *named == '\0' ? "python3" : named;
  return std::system((python + " -c 'import " + module + "' 2>/dev/null").c_str()) == 0 ? python : "";
}

// What a command prints. Throws when it fails.
inline std::string output_of(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  std::string text;
  char block[65536];
  while (const std::size_t count = fread(block, 1, sizeof block, pipe)) text.append(block, count);
  if (pclose(pipe) != 0) throw std::runtime_error("failed: " + command);
  return text;
}

}  // namespace alnair::testing
