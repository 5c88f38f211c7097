#include "manager/daemon/miss_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/percent.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr std::size_t kConnections = 256;         // at once: one a process of the job
constexpr std::size_t kLongestQuestion = 1 << 20;  // bytes
constexpr std::size_t kProcesses = 256;            // whose counters are kept apart
constexpr std::size_t kCounters = 256;             // of a process

json to_json(const ChunkAnswer& answer) {
  return {{"state", answer.state}, {"hash", answer.hash}, {"url", answer.url}, {"failure", answer.failure}};
}

}  // namespace

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
      connection.ended = true;
    });
  }
}

void MissServer::serve(Connection& connection) {
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
    const std::string reply = answer(buffer.substr(0, end)) + "\n";
    buffer.erase(0, end + 1);
    for (std::size_t sent = 0; sent < reply.size();) {
      const ssize_t count = send(connection.socket.get(), reply.data() + sent, reply.size() - sent, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      sent += static_cast<std::size_t>(count);
    }
  }
}

// Of all processes of the job, also those that have ended.
void MissServer::sum_up(const json& report) {
  const auto process = report.at("process").get<std::string>();
  auto told = report.at("counters").get<std::map<std::string, double>>();
  if (told.size() > kCounters) throw SourceError("too many counters");
  const std::lock_guard lock(mutex_);
  if (told_.size() == kProcesses && !told_.contains(process)) {
    for (const auto& [name, value] : told_.begin()->second) ended_[name] += value;
    told_.erase(told_.begin());
  }
  told_[process] = std::move(told);
  auto sums = ended_;
  for (const auto& [each, counters] : told_)
    for (const auto& [name, value] : counters)
      if (value >= 0) sums[name] += value;
  client_->report(std::move(sums));
}

std::string MissServer::answer(const std::string& question) {
  json reply;
  try {
    std::vector<ChunkQuestion> chunks;
    const json parsed = json::parse(question);
    if (const auto report = parsed.find("report"); report != parsed.end()) {
      sum_up(*report);
      return "{}";
    }
    for (const json& chunk : parsed.at("chunks")) {
      auto key = percent_decoded(chunk.at("key").get<std::string>());
      chunks.push_back({key.value_or(""), chunk.at("chunk")});
    }
    reply["chunks"] = json::array();
    for (const ChunkAnswer& each : client_->locate(chunks)) reply["chunks"].push_back(to_json(each));
  } catch (const std::exception& error) {
    reply = {{"failure", error.what()}};
  }
  return reply.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace alnair::manager
