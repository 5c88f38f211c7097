#include "manager/daemon/miss_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "alnair/core/stats.h"
#include "core/block_signals.h"
#include "core/percent.h"
#include "dataset/job/use_reporter.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr std::size_t kConnections = 256;         // at once: one a process of the job
constexpr std::size_t kLongestQuestion = 1 << 20;  // bytes
constexpr std::size_t kProcesses = 2 * kConnections;  // whose counters are kept apart: more than can be connected
constexpr std::size_t kPlaces = 8;                 // of tiers of the node
constexpr std::size_t kLongestName = 128;          // bytes, of a process
constexpr std::chrono::seconds kMayComeBack{60};   // a process that lost its connection: it reports every 5 s

json to_json(const ChunkAnswer& answer) {
  return {{"state", answer.state}, {"hash", answer.hash}, {"url", answer.url}, {"failure", answer.failure}};
}

}  // namespace

void ProcessCounts::joined(const std::string& process) {
  const std::lock_guard lock(mutex_);
  ++processes_[process].connections;
}

void ProcessCounts::left(const std::string& process, Time now) {
  const std::lock_guard lock(mutex_);
  const auto found = processes_.find(process);
  if (found == processes_.end() || --found->second.connections > 0) return;
  found->second.left = now;
}

void ProcessCounts::told(const std::string& process, const Counters& counters) {
  const auto known = stats();
  Counters taken;
  for (const auto& [name, value] : counters)
    if (value >= 0 && known.contains(name)) taken.emplace(name, value);
  const std::lock_guard lock(mutex_);
  processes_[process].counters = std::move(taken);
}

void ProcessCounts::told(const std::vector<NodeTier>& tiers) {
  const std::lock_guard lock(mutex_);
  for (const NodeTier& tier : tiers) {
    const std::pair key(tier.tier, tier.place);
    if (tiers_.size() == kPlaces && !tiers_.contains(key)) tiers_.clear();  // those that are still used are told again
    tiers_[key] = tier;
  }
}

void ProcessCounts::fold(std::map<std::string, Process>::iterator process) {
  for (const auto& [name, value] : process->second.counters) ended_[name] += value;
  processes_.erase(process);
}

ProcessCounts::Counters ProcessCounts::sum(Time now) {
  const std::lock_guard lock(mutex_);
  auto oldest = processes_.end();
  for (auto process = processes_.begin(); process != processes_.end();) {
    const auto next = std::next(process);
    if (process->second.connections == 0) {
      if (now - process->second.left > kMayComeBack)
        fold(process);
      else if (oldest == processes_.end() || process->second.left < oldest->second.left)
        oldest = process;
    }
    process = next;
  }
  if (processes_.size() > kProcesses && oldest != processes_.end()) fold(oldest);
  Counters sums = ended_;
  for (const auto& [process, its] : processes_)
    for (const auto& [name, value] : its.counters) sums[name] += value;
  return sums;
}

std::vector<NodeTier> ProcessCounts::tiers() const {
  const std::lock_guard lock(mutex_);
  std::vector<NodeTier> all;
  for (const auto& [place, tier] : tiers_) all.push_back(tier);
  return all;
}

MissServer::MissServer(const ShareOptions& share, const std::string& job, std::shared_ptr<JobClient> client)
    : path_(share.directory + "/" + job + ".sock"), client_(std::move(client)) {
  const auto fail = [&](const char* doing) {
    throw ConfigError(fmt::format("{}: cannot be {}: {}", path_, doing, std::strerror(errno)));
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path)
    throw ConfigError(fmt::format("{}: longer than the {} bytes that a socket's path may have", path_,
                                  sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  unlink(path_.c_str());  // of a daemon that was killed
  listener_ = FileDescriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const mode_t before = umask(0177);  // nobody else may connect before the mode is set
  const bool bound =
      listener_ && bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  umask(before);
  if (!bound) fail("made");
  if ((share.owner || share.group) && lchown(path_.c_str(), share.owner.value_or(static_cast<uid_t>(-1)),
                                             share.group.value_or(static_cast<gid_t>(-1))) != 0)
    fail("given to its owner");
  // Who may read the share files may ask.
  const mode_t mode = share.mode | ((share.mode & 0444) >> 1);
  if (chmod(path_.c_str(), mode) != 0) fail("given its mode");
  if (listen(listener_.get(), 64) != 0) fail("listened at");
  const BlockSignals block;
  thread_ = std::thread([this] { accept_all(); });
}

MissServer::~MissServer() {
  stopping_ = true;
  shutdown(listener_.get(), SHUT_RDWR);
  thread_.join();
  unlink(path_.c_str());
  for (Connection& connection : connections_) shutdown(connection.socket.get(), SHUT_RDWR);
  for (Connection& connection : connections_) connection.thread.join();
}

void MissServer::accept_all() {
  while (!stopping_) {
    FileDescriptor socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (stopping_) return;
    if (!socket) {  // no descriptors, say: those that wait are served when there are some
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    for (auto connection = connections_.begin(); connection != connections_.end();) {
      if (!connection->ended) {
        ++connection;
        continue;
      }
      connection->thread.join();
      connection = connections_.erase(connection);
    }
    if (connections_.size() >= kConnections) continue;  // closes it
    Connection& connection = connections_.emplace_back();
    connection.socket = std::move(socket);
    connection.thread = std::thread([this, &connection] {
      serve(connection);
      shutdown(connection.socket.get(), SHUT_RDWR);  // closed with the next one that is accepted
      connection.ended = true;
    });
  }
}

void MissServer::serve(Connection& connection) {
  struct Joined {
    ~Joined() {
      if (!process.empty()) counts.left(process, std::chrono::steady_clock::now());
    }
    ProcessCounts& counts;
    std::string process;
  } joined{counts_, ""};
  std::string buffer;
  char part[1 << 14];
  for (;;) {
    const std::size_t end = buffer.find('\n');
    if (end == std::string::npos) {
      if (buffer.size() > kLongestQuestion) return;
      const ssize_t count = recv(connection.socket.get(), part, sizeof part, 0);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      buffer.append(part, static_cast<std::size_t>(count));
      continue;
    }
    const std::string reply = answer(buffer.substr(0, end), joined.process) + "\n";
    buffer.erase(0, end + 1);
    for (std::size_t sent = 0; sent < reply.size();) {
      const ssize_t count = send(connection.socket.get(), reply.data() + sent, reply.size() - sent, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      sent += static_cast<std::size_t>(count);
    }
  }
}

void MissServer::sum_up(const json& report, std::string& process) {
  const auto told = report.at("process").get<std::string>();
  if (told.empty() || told.size() > kLongestName) throw SourceError("expected the name of a process");
  if (process != told) {
    if (!process.empty()) counts_.left(process, std::chrono::steady_clock::now());
    counts_.joined(process = told);
  }
  if (report.contains("counters")) counts_.told(process, report.at("counters").get<ProcessCounts::Counters>());
  counts_.told(node_tiers(report, kPlaces));
  client_->report(counts_.sum(std::chrono::steady_clock::now()), counts_.tiers());
}

std::string MissServer::answer(const std::string& question, std::string& process) {
  json reply;
  try {
    std::vector<ChunkQuestion> chunks;
    const json parsed = json::parse(question);
    if (const auto report = parsed.find("report"); report != parsed.end()) {
      sum_up(*report, process);
      return "{}";
    }
    for (const json& chunk : parsed.at("chunks")) {
      auto key = percent_decoded(chunk.at("key").get<std::string>());
      if (!chunk.at("chunk").is_number_unsigned()) throw SourceError("chunk: expected the number of a chunk");
      chunks.push_back({key.value_or(""), chunk.at("chunk")});
    }
    reply["chunks"] = json::array();
    for (const ChunkAnswer& each : client_->locate(chunks)) reply["chunks"].push_back(to_json(each));
  } catch (const json::exception&) {
    reply = {{"failure", R"(expected a line {"chunks": [{"key": TEXT, "chunk": NUMBER}]} or {"report": {"process": TEXT}})"}};
  } catch (const std::exception& error) {
    reply = {{"failure", error.what()}};
  }
  return reply.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace alnair::manager
