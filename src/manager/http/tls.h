// The server's certificate, its key, and whose certificates clients must have: files that are read again when they
// change. The seam to GnuTLS, which libmicrohttpd speaks TLS with.
//
// Thread-safe.
#pragma once

#include <gnutls/gnutls.h>

#include <memory>
#include <mutex>
#include <string>

namespace alnair::manager {

struct TlsOptions {
  std::string certificate;  // PEM: the server's, then those that lead to a root. Empty: no TLS
  std::string key;          // PEM, without a passphrase
  std::string client_ca;    // PEM: who signs the certificates of clients. Empty: they need none
};

class Tls {
 public:
  // Throws ConfigError: a file cannot be read, is no PEM, or certificate and key do not belong together.
  explicit Tls(const TlsOptions& options);

  // Of one state of the files. A session holds on to the state that it began with.
  struct Credentials {
    gnutls_certificate_credentials_t handle = nullptr;
    std::string certificate, key;  // what the files held
    Credentials() = default;
    Credentials(const Credentials&) = delete;
    Credentials& operator=(const Credentials&) = delete;
    ~Credentials();
  };
  std::shared_ptr<const Credentials> current() const;

  // To be called every second or so. A state that does not fit together (one file is replaced before the other) is
  // looked at again, and what was there before is used meanwhile.
  void reload_if_changed();

  // Prepares the session of a new connection, before its handshake.
  void begin(gnutls_session_t session, const Credentials& credentials) const;

  // Why the session's peer must not be let in: it sent no certificate, or one that is not good. Empty: it may.
  std::string refusal(gnutls_session_t session) const;

 private:
  std::shared_ptr<const Credentials> load() const;
  std::string fingerprint() const;  // changes with the files

  const TlsOptions options_;
  mutable std::mutex mutex_;
  std::string seen_, failed_;  // fingerprints: of what is in force, and of what was last complained about
  std::shared_ptr<const Credentials> current_;
};

}  // namespace alnair::manager
