// A program in a process of its own, which is killed with this object, or with this process.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace alnair::testing {

class ChildProcess {
 public:
  // `arguments[0]` is looked up on the PATH. Its output goes to `output`, appended.
  explicit ChildProcess(const std::vector<std::string>& arguments,
                        const std::vector<std::pair<std::string, std::string>>& environment = {},
                        const std::string& output = "/dev/null");
  ~ChildProcess() { kill(); }
  ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  ChildProcess& operator=(ChildProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }

  bool running();  // false once it has ended by itself
  void kill();     // -9, and waits; idempotent
  void signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace alnair::testing
