// Runs a part of a test in a forked process, which ends without destructors. For tests without threads.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace alnair::testing {

// True if `body` returned true there.
inline bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace alnair::testing
