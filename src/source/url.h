// URLs: of sources ("s3://bucket/path", "file:///directory") and of endpoints ("http://127.0.0.1:9000").
// Pure; thread-safe. Messages name the option, quote the URL without anything that could be a password, and
// say what was expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace alnair {

struct SourceUrl {
  enum class Kind { kS3, kFile };
  Kind kind = Kind::kS3;
  std::string bucket;  // S3 only
  std::string
      path;  // S3: what follows "s3://bucket/", raw bytes, may be empty. File: an absolute path, decoded.
};

// Throws ConfigError. An S3 path is taken literally ('%', '+', '?' and '#' are key bytes); a file path is
// percent-decoded, as pathlib's as_uri() writes it. `option` names the setting in messages.
SourceUrl parse_source_url(std::string_view url, std::string_view option = "source");

struct Endpoint {
  bool tls = true;
  std::string host;  // lower case; IPv6 in brackets
  std::uint16_t port = 443;
  std::string path;  // "" or "/prefix" (no slash at its end), encoded as given

  bool is_ip_address() const;     // then a bucket cannot be a sub-domain
  std::string authority() const;  // host, and the port unless it is the scheme's own: the Host header
  std::string origin() const;     // "http://host:port": scheme and authority
  std::string url() const { return origin() + path; }
};

// Throws ConfigError.
Endpoint parse_endpoint_url(std::string_view url, std::string_view option = "endpoint_url");

}  // namespace alnair
