// A non-blocking connection to one address: TCP or Unix socket, plain or TLS.
//
// Thread safety: none.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "redis/tls.h"
#include "redis/url.h"

namespace alnair::redis {

// Where a host's name leads; in the order in which to try them.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};
// Without asking anyone: numeric hosts and Unix sockets. Empty for a host's name.
std::vector<SocketAddress> numeric_addresses(const Address& address);
// Asks the resolver: may block for many seconds. Empty, with `problem` set, where it knows no address.
std::vector<SocketAddress> resolve_addresses(const Address& address, std::string& problem);

class Socket {
 public:
  enum class State {
    kDone,
    kWaiting,   // for the descriptor to become ready; see wants_write()
    kClosed,    // the other side ended it
    kFailed,    // problem() says how
    kTlsFailed  // the same, in the handshake of TLS
  };
  struct Progress {
    State state = State::kDone;
    std::size_t bytes = 0;  // moved, when kDone
  };

  // Begins to connect. `tls` (null: plain) outlives the socket. problem() is not empty if that failed at once.
  Socket(const SocketAddress& address, const TlsContext* tls, const std::string& host);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }
  const std::string& problem() const { return problem_; }

  // Goes on connecting, handshake included; kDone once the socket can be used.
  State connect();
  // Reads into both places, in order. kDone means some bytes; read again before waiting.
  Progress read(const std::array<std::span<std::byte>, 2>& room);
  Progress write(std::span<const iovec> pieces);

  // What connect() waits for, or TLS besides what its user does.
  bool wants_write() const { return wants_write_; }
  // Bytes wait in here, of which the descriptor says nothing.
  bool has_pending() const { return ssl_ != nullptr && SSL_has_pending(ssl_.get()) != 0; }
  bool in_handshake() const { return connected_ && ssl_ != nullptr && !ready_; }

 private:
  State fail(State state, std::string problem);
  Progress tls_result(int result, std::size_t done);

  int fd_ = -1;
  const TlsContext* const tls_;
  const std::string host_;
  SslHandle ssl_;
  bool connected_ = false;  // TCP is
  bool ready_ = false;
  bool wants_write_ = true;
  std::string problem_;
};

}  // namespace alnair::redis
