// Where this machine keeps the certificates that it trusts.
#pragma once

#include <string>

namespace alnair {

// The certificates to trust: AWS_CA_BUNDLE, SSL_CERT_FILE, CURL_CA_BUNDLE, else the first of the usual places
// of Linux distributions that exists, else what set_fallback_ca_bundle() said. Empty: none found, the library's own default counts.
// Thread-safe.
std::string find_ca_bundle();

// For a machine that has no certificates of its own.
void set_fallback_ca_bundle(const std::string& file);

}  // namespace alnair
