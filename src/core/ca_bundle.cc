#include "core/ca_bundle.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace alnair {
namespace {

std::atomic<const std::string*> fallback{nullptr};  // never destroyed: other threads may be reading it

}  // namespace

void set_fallback_ca_bundle(const std::string& file) { fallback = new std::string(file); }

std::string find_ca_bundle() {
  for (const char* variable : {"AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"})
    if (const char* value = std::getenv(variable); value != nullptr && *value != '\0') return value;
  // A library that was built elsewhere (in a wheel) looks where its builder's distribution keeps them.
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt",  // Debian, Ubuntu, Arch, Alpine, Gentoo
                           "/etc/pki/tls/certs/ca-bundle.crt",    // Fedora, RHEL 6 to 9
                           "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // RHEL, CentOS
                           "/etc/ssl/ca-bundle.pem",                             // SUSE
                           "/etc/ssl/certs/ca-bundle.crt",                       // NixOS
                           "/etc/ssl/cert.pem"})                                 // Alpine, macOS, BSD
    if (access(path, R_OK) == 0) return path;
  const std::string* const file = fallback;
  return file != nullptr ? *file : std::string();
}

}  // namespace alnair
