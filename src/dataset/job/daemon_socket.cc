#include "dataset/job/daemon_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"

namespace alnair {
namespace {

using nlohmann::json;

constexpr timeval kPatience{120, 0};  // for an answer; the daemon's own is shorter

}  // namespace

json DaemonSocket::ask(const json& question) {
  const std::string line = question.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  for (int attempt = 0;; ++attempt) {
    try {
      if (!socket_) connect();
      return exchange(line);
    } catch (const SourceError&) {
      set({});
      buffer_.clear();
      if (attempt > 0) throw;
    }
  }
}

void DaemonSocket::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (socket_) shutdown(socket_.get(), SHUT_RDWR);
}

void DaemonSocket::set(FileDescriptor socket) {
  const std::lock_guard lock(mutex_);
  if (stopped_) throw CancelledError("the dataset was closed");
  socket_ = std::move(socket);
}

void DaemonSocket::fail(const char* what) const {
  throw SourceError(fmt::format("{}: the manager's daemon {}: {}", path_, what, std::strerror(errno)));
}

void DaemonSocket::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path)
    throw ConfigError(fmt::format("{}: longer than a socket's path may be", path_));
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) fail("cannot be asked");
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fail("does not answer");
  set(std::move(socket));
}

json DaemonSocket::exchange(std::string_view line) {
  while (!line.empty()) {
    const ssize_t sent = send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) fail("went away");
    line.remove_prefix(static_cast<std::size_t>(sent));
  }
  std::size_t end;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    char part[1 << 16];
    const ssize_t count = recv(socket_.get(), part, sizeof part, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("went away");
    buffer_.append(part, static_cast<std::size_t>(count));
  }
  json answer = json::parse(buffer_.substr(0, end), nullptr, false);
  buffer_.erase(0, end + 1);
  if (!answer.is_object()) throw SourceError(fmt::format("{}: what answers there is no daemon of a manager", path_));
  return answer;
}

}  // namespace alnair
