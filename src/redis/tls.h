// TLS for connections to Redis, by OpenSSL.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "redis/url.h"

namespace alnair::redis {

template <auto Free>
struct OpenSslFree {
  template <typename T>
  void operator()(T* handle) const {
    Free(handle);
  }
};
using SslHandle = std::unique_ptr<SSL, OpenSslFree<SSL_free>>;

// What the connections of a client share: certificates and settings. Immutable; thread-safe.
class TlsContext {
 public:
  // Throws ConfigError that names the option and file that cannot be used.
  explicit TlsContext(const Options& options);

  // A client's side for the connected (or connecting) socket. `host`: what its certificate must be for, unless
  // Options::tls_name says otherwise. Null: out of memory.
  SslHandle connect(int fd, const std::string& host) const;

 private:
  std::unique_ptr<SSL_CTX, OpenSslFree<SSL_CTX_free>> context_;
  const bool verify_;
  const std::string name_;
};

// Why OpenSSL failed, for people: the certificate's fault, if it is one. Empties OpenSSL's queue of errors.
std::string tls_problem(const SSL* ssl);

}  // namespace alnair::redis
