#include "manager/http/tls.h"

#include <fmt/format.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "alnair/core/error.h"
#include "core/log.h"

namespace alnair::manager {
namespace {

std::string read_file(const char* name, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw ConfigError(fmt::format("[tls] {}: {}: {}", name, path, std::strerror(errno)));
  return text.str();
}

gnutls_datum_t datum(const std::string& text) {
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(text.data())), static_cast<unsigned>(text.size())};
}

}  // namespace

Tls::Credentials::~Credentials() {
  if (handle != nullptr) gnutls_certificate_free_credentials(handle);
}

Tls::Tls(const TlsOptions& options) : options_(options), seen_(fingerprint()), current_(load()) {}

std::shared_ptr<const Tls::Credentials> Tls::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

std::shared_ptr<const Tls::Credentials> Tls::load() const {
  auto credentials = std::make_shared<Credentials>();
  credentials->certificate = read_file("certificate", options_.certificate);
  credentials->key = read_file("key", options_.key);
  if (gnutls_certificate_allocate_credentials(&credentials->handle) < 0) throw Error("GnuTLS has no memory");
  const gnutls_datum_t certificate = datum(credentials->certificate), key = datum(credentials->key);
  const int paired =
      gnutls_certificate_set_x509_key_mem(credentials->handle, &certificate, &key, GNUTLS_X509_FMT_PEM);
  if (paired < 0)
    throw ConfigError(fmt::format("[tls] certificate {} and key {}: expected a certificate and its key without a "
                                  "passphrase, in PEM: {}",
                                  options_.certificate, options_.key, gnutls_strerror(paired)));
  if (options_.client_ca.empty()) return credentials;
  const std::string authorities = read_file("client_ca", options_.client_ca);
  const gnutls_datum_t trusted = datum(authorities);
  const int count = gnutls_certificate_set_x509_trust_mem(credentials->handle, &trusted, GNUTLS_X509_FMT_PEM);
  if (count <= 0)
    throw ConfigError(fmt::format("[tls] client_ca {}: expected certificates in PEM{}", options_.client_ca,
                                  count < 0 ? std::string(": ") + gnutls_strerror(count) : ""));
  return credentials;
}

std::string Tls::fingerprint() const {
  std::string text;
  for (const std::string* path : {&options_.certificate, &options_.key, &options_.client_ca}) {
    struct stat status {};
    if (!path->empty() && stat(path->c_str(), &status) == 0)
      text += fmt::format("{}:{}:{}.{}", status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    text += ' ';
  }
  return text;
}

void Tls::reload_if_changed() {
  const std::string found = fingerprint();
  if (found == seen_) return;
  try {
    auto fresh = load();
    const std::lock_guard lock(mutex_);
    current_ = std::move(fresh);
    seen_ = found;
    log(LogLevel::kInfo, "the certificate of {} is used from now on", options_.certificate);
  } catch (const Error& error) {
    if (std::exchange(failed_, found) != found)
      log(LogLevel::kWarning, "{}; what was there before is still used", error.what());
  }
}

void Tls::begin(gnutls_session_t session, const Credentials& credentials) const {
  gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials.handle);
  if (!options_.client_ca.empty()) gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
}

std::string Tls::refusal(gnutls_session_t session) const {
  if (options_.client_ca.empty()) return "";
  constexpr const char* kWanted = "this manager wants a client's certificate (tls_cert and tls_key)";
  unsigned count = 0, status = 0;
  if (gnutls_certificate_get_peers(session, &count) == nullptr || count == 0) return kWanted;
  if (gnutls_certificate_verify_peers2(session, &status) < 0) return kWanted;
  if (status == 0) return "";
  gnutls_datum_t why{};
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0) < 0) return kWanted;
  std::string text = fmt::format("the client's certificate is refused: {}", reinterpret_cast<const char*>(why.data));
  gnutls_free(why.data);
  text.resize(text.find_last_not_of(" .") + 1);
  return text;
}

}  // namespace alnair::manager
