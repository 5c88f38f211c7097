// How to reach Redis, as a URL. Pure; thread-safe.
//
//   redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/][?OPTION=VALUE&...]
//   rediss://...                                   the same over TLS
//   unix:[//[USER[:PASSWORD]@]]/PATH[?OPTION=...]  a Unix socket
//
// USER, PASSWORD, PATH and values are percent-decoded. "redis://:PASSWORD@..." is the user "default". Options:
//
//   mode=auto|cluster|standalone|proxy   namespace=NAME  domain=NAME   timeout_ms=N  deadline_ms=N  window_bytes=N
//   flusher=true|false
//   password_file=PATH   tls_ca=PATH  tls_cert=PATH  tls_key=PATH  tls_name=NAME  tls_verify=true|false
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace alnair::redis {

enum class Mode {
  kAuto,        // found out at the first connection
  kCluster,     // every node is reached under the address that it announces
  kStandalone,  // one server, with all slots
  kProxy,       // one endpoint that speaks plain Redis commands (Envoy, twemproxy); several seeds are its replicas
};
std::string_view to_string(Mode mode);

// A host and port, or the path of a Unix socket.
struct Address {
  std::string host = {};  // without brackets; empty: a Unix socket
  std::uint16_t port = 0;
  std::string path = {};  // of the Unix socket

  auto operator<=>(const Address&) const = default;
  std::string text() const;  // "10.0.0.1:6379", "[::1]:6379", "unix:/run/redis.sock"
};

struct Options {
  std::vector<Address> seeds;
  std::string user = {};           // empty: "default"
  std::string password = {};       // empty, with an empty user: none is sent
  std::string password_file = {};  // in place of `password`: read at every connection, so it may change while jobs run

  Mode mode = Mode::kAuto;
  std::string key_namespace = "alnair";
  std::string domain = "default";
  bool flusher = true;  // false: another process sees to what Redis evicts (cache/redis/flusher.h)

  bool tls = false;
  bool tls_verify = true;     // false: any certificate will do; for tests
  std::string tls_ca = {};    // PEM file; empty: the system's
  std::string tls_cert = {};  // PEM files of the client's own certificate
  std::string tls_key = {};
  std::string tls_name = {};  // the name that certificates must have; empty: the host that is connected to

  std::chrono::milliseconds timeout{2'000};    // a connection without an answer for so long is cut off
  std::chrono::milliseconds deadline{10'000};  // for a command, with all its waiting, redirections and repetitions
  std::uint64_t window_bytes = 1 << 20;        // bytes in flight on a connection: of requests, and of expected replies
};

// Throws ConfigError; messages begin with `option`, show no password, and name the option of the URL that is wrong.
Options parse_url(std::string_view url, std::string_view option = "redis");

// A URL of these options, with the password in it: parse_url() makes equal ones of it.
std::string to_url(const Options& options);

}  // namespace alnair::redis
