// AWS Signature Version 4 as S3 wants it: pure and staged. The canonical request, the string to sign and the
// signature are functions of their arguments; the clock, the credentials and the region are among them.
//
// S3's own rules: the path is encoded once and never normalised (`//`, `.` and `..` are key bytes), and
// x-amz-content-sha256 is always there.
//
// Thread safety: all functions may be called from any thread at once.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/source/s3_source.h"
#include "core/percent.h"

namespace alnair {

struct Header {
  std::string name;
  std::string value;
};

struct QueryParameter {
  std::string name;   // raw bytes, not encoded
  std::string value;  // raw bytes, not encoded
};

using SigningTime = std::chrono::system_clock::time_point;

inline constexpr std::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";
inline constexpr std::string_view kEmptyPayloadHash =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";  // SHA-256 of no bytes

// The query string, encoded and in signing order; it is also what goes after '?' in the URL.
std::string canonical_query(std::span<const QueryParameter> parameters);

// --- Stages ---

// What is signed. `encoded_path` and `query` must be, byte for byte, what the URL that is sent contains.
struct SigningRequest {
  std::string_view method = "GET";
  std::string_view encoded_path =
      "/";                          // percent_encoded(path, kKeep), behind the endpoint's own path if it has one
  std::string_view query;           // as canonical_query returns it
  std::span<const Header> headers;  // any case and order, Host among them
  std::string_view payload_hash = kEmptyPayloadHash;  // hex SHA-256 of the body, or kUnsignedPayload
};

struct CanonicalRequest {
  std::string text;
  std::string signed_headers;  // "host;x-amz-date": headers that proxies change (User-Agent...) are left out
};

CanonicalRequest canonical_request(const SigningRequest& request);

std::string amz_date(SigningTime time);  // "20130524T000000Z"
std::string credential_scope(SigningTime time, std::string_view region, std::string_view service = "s3");
std::string string_to_sign(SigningTime time, std::string_view scope, std::string_view canonical_request_text);

using Sha256Digest = std::array<std::uint8_t, 32>;
Sha256Digest sha256(std::string_view bytes);
Sha256Digest hmac_sha256(std::string_view key, std::string_view message);
std::string hex(const Sha256Digest& digest);

Sha256Digest signing_key(std::string_view secret, SigningTime time, std::string_view region,
                         std::string_view service = "s3");
std::string signature(const Sha256Digest& key, std::string_view text);

// --- All stages at once ---

// Remembers the last few signing keys: a key lasts a day, and deriving it costs as much as signing.
class SigningKeyCache {
 public:
  Sha256Digest get(std::string_view secret, SigningTime time, std::string_view region,
                   std::string_view service = "s3");

 private:
  struct Entry {
    std::string secret, scope;
    Sha256Digest key{};
  };
  std::mutex mutex_;
  std::array<Entry, 4> entries_;
  std::size_t next_ = 0;
};

// The headers that make `request` (whose headers are Host and whatever else is sent) a signed one:
// X-Amz-Date, X-Amz-Content-SHA256 for S3, X-Amz-Security-Token when there is one, and Authorization.
std::vector<Header> sign_headers(const SigningRequest& request, const S3Credentials& credentials,
                                 std::string_view region, SigningTime time, SigningKeyCache& keys,
                                 std::string_view service = "s3");

// The query string of a presigned URL (to be put after '?'), good from `time` until `expires` later. Only
// Host is signed. Throws ConfigError unless `expires` is 1 second to 7 days.
std::string presign_query(std::string_view method, std::string_view host, std::string_view encoded_path,
                          std::span<const QueryParameter> parameters, const S3Credentials& credentials,
                          std::string_view region, SigningTime time, std::chrono::seconds expires,
                          SigningKeyCache& keys);

}  // namespace alnair
