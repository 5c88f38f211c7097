#include "manager/http/listener.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "alnair/core/error.h"

namespace alnair::manager {
namespace {

constexpr int kBacklog = 4096;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// size 0: no address in numbers.
Address parse_address(const std::string& text, std::uint16_t port) {
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof *v6;
  }
  return address;
}

}  // namespace

FileDescriptor listen_on(const std::string& address, std::uint16_t port) {
  Address bound = parse_address(address, port);
  if (bound.size == 0)
    throw ConfigError(fmt::format("bind is \"{}\"; expected an IPv4 or IPv6 address in numbers", address));
  FileDescriptor socket(::socket(bound.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!socket || ::bind(socket.get(), bound.get(), bound.size) != 0 || ::listen(socket.get(), kBacklog) != 0)
    throw ConfigError(fmt::format("cannot listen on {} port {}: {}", address, port, std::strerror(errno)));
  return socket;
}

std::uint16_t bound_port(int socket) {
  Address address;
  address.size = sizeof address.storage;
  if (getsockname(socket, address.get(), &address.size) != 0) return 0;
  return ntohs(address.storage.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port
                                                     : reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port);
}

bool is_loopback(const std::string& address) {
  Address parsed = parse_address(address, 0);
  if (parsed.size == 0) return false;
  if (parsed.storage.ss_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6*>(&parsed.storage)->sin6_addr);
  return ntohl(reinterpret_cast<sockaddr_in*>(&parsed.storage)->sin_addr.s_addr) >> 24 == 127;
}

}  // namespace alnair::manager
