#include "redis/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include <fmt/format.h>

namespace alnair::redis {
namespace {

std::vector<SocketAddress> addresses_of(const Address& address, int flags, int& error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  error = getaddrinfo(address.host.c_str(), fmt::format("{}", address.port).c_str(), &hints, &found);
  std::vector<SocketAddress> addresses;
  if (error != 0) return addresses;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    SocketAddress socket_address;
    if (each->ai_addrlen > sizeof socket_address.storage) continue;
    std::memcpy(&socket_address.storage, each->ai_addr, each->ai_addrlen);
    socket_address.length = each->ai_addrlen;
    addresses.push_back(socket_address);
  }
  return addresses;
}

}  // namespace

std::vector<SocketAddress> numeric_addresses(const Address& address) {
  if (!address.host.empty()) {
    int ignored = 0;
    return addresses_of(address, AI_NUMERICHOST, ignored);
  }
  SocketAddress socket_address;
  auto& unix_address = reinterpret_cast<sockaddr_un&>(socket_address.storage);
  unix_address.sun_family = AF_UNIX;
  address.path.copy(unix_address.sun_path, sizeof unix_address.sun_path - 1);
  socket_address.length = sizeof unix_address;
  return {socket_address};
}

std::vector<SocketAddress> resolve_addresses(const Address& address, std::string& problem) {
  int error = 0;
  auto addresses = addresses_of(address, AI_ADDRCONFIG, error);
  if (error != 0) problem = gai_strerror(error);
  return addresses;
}

Socket::Socket(const SocketAddress& address, const TlsContext* tls, const std::string& host) : tls_(tls), host_(host) {
  const auto* target = reinterpret_cast<const sockaddr*>(&address.storage);
  fd_ = socket(target->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) {
    fail(State::kFailed, std::strerror(errno));
    return;
  }
  if (target->sa_family != AF_UNIX) {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  if (::connect(fd_, target, address.length) == 0)
    connected_ = true;
  else if (errno != EINPROGRESS)
    fail(State::kFailed, std::strerror(errno));
}

Socket::~Socket() {
  ssl_.reset();
  if (fd_ >= 0) close(fd_);
}

Socket::State Socket::fail(State state, std::string problem) {
  problem_ = std::move(problem);
  return state;
}

Socket::State Socket::connect() {
  if (ready_) return State::kDone;
  if (!problem_.empty()) return State::kFailed;
  if (!connected_) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return fail(State::kFailed, std::strerror(error));
    sockaddr_storage peer;
    socklen_t peer_length = sizeof peer;
    if (getpeername(fd_, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) return State::kWaiting;
    connected_ = true;
  }
  if (tls_ != nullptr) {
    if (!ssl_) ssl_ = tls_->connect(fd_, host_);
    if (!ssl_) return fail(State::kTlsFailed, "TLS cannot be set up for this host");
    ERR_clear_error();
    errno = 0;
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1) {
      const int saved = errno;
      const int error = SSL_get_error(ssl_.get(), result);
      wants_write_ = error == SSL_ERROR_WANT_WRITE;
      if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return State::kWaiting;
      if (error == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return fail(State::kTlsFailed, tls_problem(ssl_.get()));
      return fail(State::kTlsFailed, saved != 0 ? std::strerror(saved) : "the server ended the handshake");
    }
  }
  wants_write_ = false;
  ready_ = true;
  return State::kDone;
}

Socket::Progress Socket::read(const std::array<std::span<std::byte>, 2>& room) {
  if (ssl_) {
    const std::span<std::byte> place = room[0].empty() ? room[1] : room[0];
    ERR_clear_error();
    errno = 0;
    return tls_result(
        SSL_read(ssl_.get(), place.data(), static_cast<int>(std::min<std::size_t>(place.size(), INT_MAX))), 0);
  }
  const std::array<iovec, 2> pieces{{{room[0].data(), room[0].size()}, {room[1].data(), room[1].size()}}};
  while (true) {
    const ssize_t count = readv(fd_, pieces.data(), 2);
    if (count > 0) return {State::kDone, static_cast<std::size_t>(count)};
    if (count == 0) return {State::kClosed};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {State::kWaiting};
    if (errno == ECONNRESET || errno == EPIPE) return {State::kClosed};
    return {fail(State::kFailed, std::strerror(errno))};
  }
}

Socket::Progress Socket::write(std::span<const iovec> pieces) {
  if (ssl_) {  // OpenSSL writes without MSG_NOSIGNAL: the loop's thread takes no SIGPIPE (core/block_signals.h)
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      ERR_clear_error();
      errno = 0;
      const int length = static_cast<int>(std::min<std::size_t>(piece.iov_len, INT_MAX));
      const Progress progress = tls_result(SSL_write(ssl_.get(), piece.iov_base, length), done);
      wants_write_ = false;  // its user waits for that by itself, having more to write
      if (progress.state != State::kDone) return progress;
      const bool whole = progress.bytes - done == piece.iov_len;
      done = progress.bytes;
      if (!whole) break;
    }
    return {State::kDone, done};
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  while (true) {
    const ssize_t count = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (count >= 0) return {State::kDone, static_cast<std::size_t>(count)};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {State::kWaiting};
    if (errno == ECONNRESET || errno == EPIPE) return {State::kClosed};
    return {fail(State::kFailed, std::strerror(errno))};
  }
}

// `done` bytes were moved before.
Socket::Progress Socket::tls_result(int result, std::size_t done) {
  if (result > 0) {
    wants_write_ = false;
    return {State::kDone, done + static_cast<std::size_t>(result)};
  }
  if (done > 0) return {State::kDone, done};
  const int saved = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      wants_write_ = false;
      return {State::kWaiting};
    case SSL_ERROR_WANT_WRITE:
      wants_write_ = true;
      return {State::kWaiting};
    case SSL_ERROR_ZERO_RETURN:
      return {State::kClosed};
    case SSL_ERROR_SYSCALL:
      if (saved == 0 || saved == ECONNRESET || saved == EPIPE) return {State::kClosed};
      return {fail(State::kFailed, std::strerror(saved))};
    default:
      return {fail(State::kFailed, tls_problem(ssl_.get()))};
  }
}

}  // namespace alnair::redis
