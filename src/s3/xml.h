// What S3 answers in XML: pages of listings, and errors. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/source/object_source.h"

namespace alnair {

// One page of ListObjectsV2.
struct ListPage {
  std::vector<ObjectInfo> objects;           // keys decoded, ETags without quotes
  std::vector<std::string> common_prefixes;  // decoded
  bool truncated = false;                    // there are more pages
  std::string
      next_token;  // asks for the next page; servers without tokens leave it empty: go on after the last key
};

// Parses a ListBucketResult; `body` is consumed. Throws SourceError that says what was wrong (and, for an
// Error document sent with status 200, quotes it).
ListPage parse_list_page(std::string body);

// An Error document's fields; those that it lacks are empty.
struct S3ErrorBody {
  std::string code;  // "NoSuchKey"
  std::string message;
  std::string region;    // of the bucket, in AuthorizationHeaderMalformed and PermanentRedirect
  std::string endpoint;  // where the bucket is, in redirects
  std::string request_id;
};

// nullopt: the body is no Error document (HEAD has none; proxies send HTML). Never throws for what the body
// contains.
std::optional<S3ErrorBody> parse_error_body(std::string_view body);

// Credentials as STS's AssumeRole and AssumeRoleWithWebIdentity answer them.
struct StsCredentials {
  std::string access_key_id, secret_access_key, session_token;
  std::int64_t expires_ms = 0;  // milliseconds since the Unix epoch
};

// Throws SourceError, without quoting the body.
StsCredentials parse_sts_credentials(std::string body);

// "2009-10-12T17:50:30.000Z", the fraction and a "+hh:mm" offset optional, as milliseconds since the Unix
// epoch.
std::optional<std::int64_t> parse_iso8601_ms(std::string_view text);

}  // namespace alnair
