// The Unix socket of a manager's daemon: a question and its answer are a line of JSON each.
//
//   {"chunks": [{"key": …, "chunk": NUMBER}, …]}   keys are percent-encoded
//     {"chunks": [{"state": "redis"|"directory"|"source"|"failed", "hash": …, "url": …, "failure": …}, …]}
//   {"report": {"process": …, "counters": {NAME: NUMBER, …}, "tiers": [{"tier": …, "place": …, …}, …]}}
//     {}                                           what this process has read so far, and how full the node is, as
//                                                  heartbeats carry it; either may be left out
//
// Either is answered by {"failure": …} where it cannot be.
#pragma once

#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/file.h"

namespace alnair {

// Of one thread at a time; stop() may come from another one.
class DaemonSocket {
 public:
  explicit DaemonSocket(std::string path) : path_(std::move(path)) {}

  // Connects if need be; a connection that has ended is made anew, once. Waits, for two minutes at most. Throws SourceError;
  // ConfigError: the path is too long; CancelledError after stop().
  nlohmann::json ask(const nlohmann::json& question);

  void stop();  // ends what goes on, for good

 private:
  void set(FileDescriptor socket);
  [[noreturn]] void fail(const char* what) const;
  void connect();
  nlohmann::json exchange(std::string_view line);

  const std::string path_;
  std::string buffer_;
  std::mutex mutex_;
  bool stopped_ = false;
  FileDescriptor socket_;  // replaced under mutex_
};

}  // namespace alnair
