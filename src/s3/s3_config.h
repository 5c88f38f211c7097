// Where a bucket is and how it is addressed: options and environment, resolved once, when a source is opened.
//
// Thread safety: immutable after resolve_s3_config(); all functions may be called from any thread at once.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "alnair/source/s3_source.h"
#include "source/url.h"

namespace alnair {

struct S3Config {
  std::string bucket;
  S3Options options;                 // as given
  std::optional<Endpoint> endpoint;  // a server of one's own; nullopt: AWS
  std::string ca_bundle;             // file; empty: find_ca_bundle()
  std::string region;                // to sign for until the bucket says otherwise; never empty

  // "s3://bucket" on AWS, else "s3://bucket@http://127.0.0.1:9000".
  std::string identity() const;
  // For messages: "s3://bucket/key".
  std::string object_url(std::string_view key) const { return "s3://" + bucket + "/" + std::string(key); }
  // For messages: "http://127.0.0.1:9000", or AWS's for the region.
  std::string endpoint_text(const std::string& for_region) const;
};

// Reads AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION, AWS_CA_BUNDLE and then the
// profile in force for what the options leave open. Throws ConfigError.
S3Config resolve_s3_config(const std::string& bucket, const S3Options& options);

// Whether a region may have that name: it becomes part of a host name and of signatures.
bool is_region(std::string_view name);

// How requests reach the bucket: virtual-host style (bucket.s3.region.amazonaws.com/key) or path style
// (endpoint/bucket/key).
struct S3Address {
  std::string origin;  // "https://host:port"
  std::string host;    // the Host header
  std::string path;    // encoded, in front of "/key": "", "/bucket", "/prefix/bucket"
};
S3Address address_of(const S3Config& config, const std::string& region);

}  // namespace alnair
