// Serves the processes of one job over a Unix socket in /share (dataset/job/daemon_socket.h has the protocol): cache misses of those
// without S3 credentials are passed on to the manager, and what all have read goes into the job's heartbeats.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
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
  std::string answer(const std::string& question);
  void sum_up(const nlohmann::json& report);

  const std::string path_;
  const std::shared_ptr<JobClient> client_;
  FileDescriptor listener_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::map<std::string, std::map<std::string, double>> told_;  // by process: its counters
  std::map<std::string, double> ended_;                        // of processes that are not kept apart any more
  std::list<Connection> connections_;  // the accepting thread's, until that has ended
  std::thread thread_;
};

}  // namespace alnair::manager
