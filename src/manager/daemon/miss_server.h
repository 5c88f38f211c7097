// Serves cache misses of one job over a Unix socket in /share, for scripts without S3 credentials (dataset/job/miss_source.h has
// the protocol): passes them on to the manager, and waits until it has an answer.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "alnair/dataset/job_client.h"
#include "core/file.h"
#include "manager/daemon/share_file.h"

namespace alnair::manager {

class MissServer {
 public:
  // Listens at {job}.sock in the share directory, with the share files' owner and mode. Throws ConfigError.
  MissServer(const ShareOptions& share, const std::string& job, std::shared_ptr<JobClient> client);
  ~MissServer();  // removes the socket, ends connections

 private:
  struct Connection {
    FileDescriptor socket;
    std::thread thread;
    std::atomic<bool> ended{false};
  };
  void accept_all();
  void serve(Connection& connection);
  std::string answer(const std::string& question) const;

  const std::string path_;
  const std::shared_ptr<JobClient> client_;
  FileDescriptor listener_;
  std::atomic<bool> stopping_{false};
  std::list<Connection> connections_;  // the accepting thread's, until that has ended
  std::thread thread_;
};

}  // namespace alnair::manager
