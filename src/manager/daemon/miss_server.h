// Serves the processes of one job over a Unix socket in /share (dataset/job/daemon_socket.h has the protocol): cache misses of those
// without S3 credentials are passed on to the manager, and what all have read goes into the job's heartbeats.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>
#include <vector>

#include "alnair/dataset/job_client.h"
#include "core/file.h"
#include "manager/daemon/share_file.h"

namespace alnair::manager {

// What the processes of a job have counted, summed; also that of those that have ended. Each counts as long as it is
// connected, and for a while afterwards, as it may come back. Bounded, whatever is told. Thread-safe.
class ProcessCounts {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Counters = std::map<std::string, double>;

  // `process` has a connection more, or less.
  void joined(const std::string& process);
  void left(const std::string& process, Time now);

  // In place of what it told before. Counters that the library does not have are left out.
  void told(const std::string& process, const Counters& counters);
  void told(const std::vector<NodeTier>& tiers);

  Counters sum(Time now);
  std::vector<NodeTier> tiers() const;  // as they were told last

 private:
  struct Process {
    Counters counters;
    std::uint64_t connections = 0;
    Time left{};
  };
  void fold(std::map<std::string, Process>::iterator process);

  mutable std::mutex mutex_;
  std::map<std::string, Process> processes_;
  Counters ended_;                                                 // of those that are not kept apart any more
  std::map<std::pair<std::string, std::string>, NodeTier> tiers_;  // by name and place
};

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
  // `process` is whose connection it is; empty: it has told nothing yet.
  std::string answer(const std::string& question, std::string& process);
  void sum_up(const nlohmann::json& report, std::string& process);

  const std::string path_;
  const std::shared_ptr<JobClient> client_;
  FileDescriptor listener_;
  std::atomic<bool> stopping_{false};
  ProcessCounts counts_;
  std::list<Connection> connections_;  // the accepting thread's, until that has ended
  std::thread thread_;
};

}  // namespace alnair::manager
