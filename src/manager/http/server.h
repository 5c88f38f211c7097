// An HTTP/1.1 server over libmicrohttpd: the one seam to it.
//
// One event loop holds all connections; a request goes to one of a few worker threads once all of it has arrived. So an
// idle or slow connection holds a descriptor and no thread. Limits: connections, bytes of headers and body, the time in
// which a request must arrive, requests that wait for a worker.
//
// What does not get as far as the handler (too large, too many, malformed targets) is answered with a problem; what is no
// HTTP, or has headers of more than twice their limit, gets libmicrohttpd's own page with a 4xx status.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "manager/http/message.h"
#include "manager/http/tls.h"

namespace alnair::manager {

struct ServerOptions {
  std::string address = "127.0.0.1";  // IPv4 or IPv6
  std::uint16_t port = 0;             // 0: a free one
  TlsOptions tls;
  int workers = 24;                          // threads: some of them wait for the cache
  std::size_t max_queue = 1024;              // requests that wait for a worker; then 503
  std::size_t max_body_bytes = 1 << 20;      // then 413
  std::size_t max_header_bytes = 16 << 10;   // request line and headers; then 414 or 431
  unsigned max_connections = 16'000;         // further ones wait in the kernel's queue
  std::chrono::seconds idle_timeout{75};     // a connection without a byte is closed
  std::chrono::seconds request_timeout{20};  // from a request's line to its last byte; then the connection is cut
};

// Runs on a worker thread, several at once; must not throw.
using Handler = std::function<Response(const Request&)>;

class Server {
 public:
  // Listens and serves at once. Throws ConfigError: the address is none, or in use; or what Tls() throws.
  static std::unique_ptr<Server> start(const ServerOptions& options, Handler handler);

  // As stop(0 s).
  virtual ~Server() = default;

  virtual std::uint16_t port() const = 0;
  virtual std::uint64_t connections() const = 0;  // open now

  // Stops accepting, answers the requests that have arrived, closes all connections. Answers that cannot be sent within
  // `deadline` are dropped; a handler that is running is waited for. Idempotent.
  virtual void stop(std::chrono::milliseconds deadline) = 0;
};

}  // namespace alnair::manager
