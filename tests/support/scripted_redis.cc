#include "support/scripted_redis.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <stdexcept>

namespace alnair::testing {
namespace {

// Takes a whole command from the front of `bytes`.
std::optional<std::vector<std::string>> take_command(std::string& bytes) {
  std::size_t at = 0;
  const auto number = [&](char kind) -> std::optional<std::size_t> {
    const std::size_t end = bytes.find("\r\n", at);
    if (end == std::string::npos || bytes[at] != kind) return std::nullopt;
    const auto value = std::strtoul(bytes.c_str() + at + 1, nullptr, 10);
    at = end + 2;
    return value;
  };
  const auto count = number('*');
  if (!count) return std::nullopt;
  std::vector<std::string> arguments;
  for (std::size_t i = 0; i < *count; ++i) {
    const auto length = number('$');
    if (!length || bytes.size() < at + *length + 2) return std::nullopt;
    arguments.push_back(bytes.substr(at, *length));
    at += *length + 2;
  }
  bytes.erase(0, at);
  return arguments;
}

}  // namespace

ScriptedRedis::ScriptedRedis(Handler handler) : handler_(std::move(handler)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("cannot listen on 127.0.0.1");
  port_ = ntohs(address.sin_port);
  accepter_ = std::thread([this] {
    while (true) {
      const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        close(connection);
        return;
      }
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] { serve(connection); });
    }
  });
}

ScriptedRedis::~ScriptedRedis() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const int connection : connections_) shutdown(connection, SHUT_RDWR);
    threads.swap(threads_);
  }
  shutdown(listener_, SHUT_RDWR);
  accepter_.join();
  for (std::thread& thread : threads) thread.join();
  for (const int connection : connections_) close(connection);
  close(listener_);
}

void ScriptedRedis::serve(int connection) {
  std::string bytes;
  char block[4096];
  while (true) {
    while (const auto arguments = take_command(bytes)) {
      const std::string reply = handler_(*arguments);
      if (reply.empty() || send(connection, reply.data(), reply.size(), MSG_NOSIGNAL) < 0) {
        shutdown(connection, SHUT_RDWR);
        return;
      }
    }
    const ssize_t count = recv(connection, block, sizeof block, 0);
    if (count <= 0) return;
    bytes.append(block, static_cast<std::size_t>(count));
  }
}

std::string ScriptedRedis::hello(const std::string& mode, const std::string& version) {
  return fmt::format("*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n${}\r\n{}\r\n$4\r\nmode\r\n${}\r\n{}\r\n",
                     version.size(), version, mode.size(), mode);
}

std::string ScriptedRedis::all_slots() const {
  return fmt::format("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n", port_);
}

}  // namespace alnair::testing
