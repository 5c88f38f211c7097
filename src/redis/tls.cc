#include "redis/tls.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "alnair/core/error.h"
#include "core/ca_bundle.h"

namespace alnair::redis {
namespace {

std::string last_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "unknown error";
}

[[noreturn]] void fail(std::string_view option, const std::string& path) {
  const std::string reason = last_error();
  if (access(path.c_str(), R_OK) != 0)
    throw ConfigError(fmt::format("redis: {} '{}' cannot be read: {}.", option, path, std::strerror(errno)));
  throw ConfigError(fmt::format("redis: {} '{}' cannot be used: {}.", option, path, reason));
}

bool is_ip_address(const std::string& host) {
  in6_addr ignored;
  return inet_pton(AF_INET, host.c_str(), &ignored) == 1 || inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

}  // namespace

TlsContext::TlsContext(const Options& options)
    : context_(SSL_CTX_new(TLS_client_method())), verify_(options.tls_verify), name_(options.tls_name) {
  if (!context_) throw std::bad_alloc();
  SSL_CTX* const context = context_.get();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_verify(context, verify_ ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  // A key with a passphrase would be asked for on the terminal.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return 0; });
  if (verify_) {
    const std::string bundle = options.tls_ca.empty() ? find_ca_bundle() : options.tls_ca;
    if (bundle.empty())
      SSL_CTX_set_default_verify_paths(context);
    else if (SSL_CTX_load_verify_locations(context, bundle.c_str(), nullptr) != 1)
      fail("tls_ca", bundle);
  }
  if (options.tls_cert.empty()) return;
  if (SSL_CTX_use_certificate_chain_file(context, options.tls_cert.c_str()) != 1) fail("tls_cert", options.tls_cert);
  if (SSL_CTX_use_PrivateKey_file(context, options.tls_key.c_str(), SSL_FILETYPE_PEM) != 1)
    fail("tls_key", options.tls_key);
  if (SSL_CTX_check_private_key(context) != 1) fail("tls_key", options.tls_key);
}

SslHandle TlsContext::connect(int fd, const std::string& host) const {
  SslHandle ssl(SSL_new(context_.get()));
  if (!ssl || SSL_set_fd(ssl.get(), fd) != 1) return nullptr;
  const std::string& name = name_.empty() ? host : name_;
  if (is_ip_address(name)) {
    if (verify_ && X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), name.c_str()) != 1) return nullptr;
  } else if (!name.empty()) {
    if (SSL_set_tlsext_host_name(ssl.get(), name.c_str()) != 1) return nullptr;
    if (verify_ && SSL_set1_host(ssl.get(), name.c_str()) != 1) return nullptr;
  }
  SSL_set_connect_state(ssl.get());
  return ssl;
}

std::string tls_problem(const SSL* ssl) {
  const long verdict = SSL_get_verify_result(ssl);
  if (verdict != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE) {
    ERR_clear_error();
    return fmt::format("its certificate is refused: {}", X509_verify_cert_error_string(verdict));
  }
  return last_error();
}

}  // namespace alnair::redis
