// FerretDB, a real server that speaks MongoDB's protocol, in a process of its own on a free port of 127.0.0.1. The
// program comes from ALNAIR_TEST_FERRETDB (tests/run sets it).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "support/child_process.h"
#include "support/temporary_directory.h"

namespace alnair::testing {

class FerretDb {
 public:
  static bool available();

  FerretDb();
  void kill() { process_->kill(); }
  void start_again();  // on the same port, with the same data
  void pause() { process_->signal(SIGSTOP); }
  void resume() { process_->signal(SIGCONT); }

  std::string uri(const std::string& database) const;

 private:
  bool listens();

  TemporaryDirectory directory_;
  int port_ = 0;
  std::optional<ChildProcess> process_;
};

}  // namespace alnair::testing
