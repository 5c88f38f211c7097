// Where this machine keeps the certificates that it trusts.
#pragma once

#include <string>

namespace alnair {

// The certificates to trust: AWS_CA_BUNDLE, SSL_CERT_FILE, CURL_CA_BUNDLE, else the first of the usual places
// of Linux distributions that exists. Empty: none found, the library's own default counts.
std::string find_ca_bundle();

}  // namespace alnair
