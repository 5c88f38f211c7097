// An S3 bucket as an object source.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "alnair/source/object_source.h"

namespace alnair {

enum class AddressingStyle { kAuto, kPath, kVirtual };

// Long-term or temporary credentials. Never logged; messages show at most the access key id.
struct S3Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  // empty for long-term keys
};

// What is empty or absent is found out: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, profiles, the bucket.
struct S3Options {
  std::string endpoint_url;
  std::string region;
  std::string profile;
  std::optional<S3Credentials> credentials;  // else AWS's default chain
  bool anonymous = false;
  bool requester_pays = false;
  AddressingStyle addressing_style = AddressingStyle::kAuto;
  std::string ca_bundle;  // file; empty: AWS_CA_BUNDLE, else the system's

  int max_connections = 32;                                // open: of this process, in a Dataset of this node
  int max_requests = 0;                                    // in flight; 0: as max_connections
  std::uint64_t max_bytes_in_flight = 256ull << 20;        // bytes
  int event_loop_threads = 0;                              // 0: as many as cores, 1 to 4
  int max_attempts = 5;                                    // of one request, the first included
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds stall_timeout{10'000};         // no byte for so long: the attempt failed
  std::chrono::milliseconds request_timeout{120'000};      // for one request with all its attempts
  bool hedging = true;                                     // duplicate stragglers' GETs, at most 5 % of requests
};

// Checks the options; touches no network. Throws ConfigError.
std::shared_ptr<ObjectSource> open_s3_source(const std::string& bucket, const S3Options& options);

// Where credentials for the bucket are found, for people: "the environment", "profile 'dev'", "anonymous". Shows no secret. Blocks.
// Throws ConfigError (none, malformed), AccessError, SourceError, TimeoutError.
std::string find_s3_credentials(const std::string& bucket, const S3Options& options, const Interrupt& interrupt);

// Where the server says that the bucket is. Blocks, for a request. Throws as ObjectSource::list does.
struct S3Location {
  std::string endpoint;  // "https://s3.eu-central-1.amazonaws.com"
  std::string region;
};
S3Location locate_s3_bucket(const std::string& bucket, const S3Options& options, const Interrupt& interrupt);

// A GET URL for `key` that needs no credentials until `expires` from now (at most 7 days). Throws ConfigError when no
// credentials are found.
std::string presign_get(const std::string& bucket, const std::string& key, const S3Options& options,
                        std::chrono::seconds expires);

}  // namespace alnair
