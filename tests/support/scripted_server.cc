#include "support/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace alnair::testing {

ScriptedServer::ScriptedServer(Handler handler) : handler_(std::move(handler)) {
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

ScriptedServer::~ScriptedServer() {
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

void ScriptedServer::serve(int connection) {
  std::string bytes;
  char block[4096];
  while (true) {
    while (const auto reply = handler_(bytes)) {
      if (reply->empty() || send(connection, reply->data(), reply->size(), MSG_NOSIGNAL) < 0) {
        shutdown(connection, SHUT_RDWR);
        return;
      }
    }
    const ssize_t count = recv(connection, block, sizeof block, 0);
    if (count <= 0) return;
    bytes.append(block, static_cast<std::size_t>(count));
  }
}

}  // namespace alnair::testing
