#include "s3/s3_config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "alnair/core/error.h"
#include "s3/credentials/profiles.h"
#include "s3/sigv4.h"

namespace alnair {
namespace {

constexpr std::string_view kFirstRegion = "us-east-1";  // where AWS says what a bucket's region is

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void check_bucket(std::string_view bucket) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':';
  };
  bool good = !bucket.empty() && bucket.size() <= 255 && bucket != "." && bucket != "..";
  for (const char c : bucket) good = good && allowed(c);
  if (!good)
    throw ConfigError(fmt::format(
        "'{}' is no bucket name: expected 3 to 63 letters, digits, dots and hyphens, as in s3://bucket.",
        bucket));
}

void check_region(std::string_view region, std::string_view where) {
  if (!is_region(region))
    throw ConfigError(fmt::format("{} '{}' is no region: expected a name such as us-east-1.", where, region));
}

void check_limits(const S3Options& options) {
  const auto check = [](std::string_view name, std::int64_t value, std::int64_t least) {
    if (value < least) throw ConfigError(fmt::format("{} is {}: expected at least {}.", name, value, least));
  };
  check("max_connections", options.max_connections, 1);
  check("max_requests", options.max_requests, 0);
  check("event_loop_threads", options.event_loop_threads, 0);
  check("max_attempts", options.max_attempts, 1);
  check("connect_timeout (milliseconds)", options.connect_timeout.count(), 1);
  check("stall_timeout (milliseconds)", options.stall_timeout.count(), 1);
  check("request_timeout (milliseconds)", options.request_timeout.count(), 1);
  if (options.max_bytes_in_flight == 0)
    throw ConfigError("max_bytes_in_flight is 0: expected a number of bytes.");
  if (!options.ca_bundle.empty() && access(options.ca_bundle.c_str(), R_OK) != 0)
    throw ConfigError(fmt::format("ca_bundle '{}' cannot be read: expected a PEM file of certificates.",
                                  options.ca_bundle));
  if (options.anonymous && options.credentials)
    throw ConfigError("anonymous and credentials are both given: expected one of them.");
}

bool is_aws(const Endpoint& endpoint) {
  return endpoint.host.ends_with(".amazonaws.com") || endpoint.host.ends_with(".amazonaws.com.cn");
}

std::string aws_host(const std::string& region) {
  return fmt::format("s3.{}.amazonaws.com{}", region, region.starts_with("cn-") ? ".cn" : "");
}

bool use_path_style(const S3Config& config) {
  if (config.options.addressing_style != AddressingStyle::kAuto)
    return config.options.addressing_style == AddressingStyle::kPath;
  if (config.bucket.find_first_of("_:ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string::npos)
    return true;                                                     // no host name
  const bool dotted = config.bucket.find('.') != std::string::npos;  // no wildcard certificate covers it
  if (!config.endpoint) return dotted;
  return !is_aws(*config.endpoint) || (dotted && config.endpoint->tls);
}

}  // namespace

bool is_region(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

S3Config resolve_s3_config(const std::string& bucket, const S3Options& options) {
  check_bucket(bucket);
  check_limits(options);
  const ProfileSettings profile =
      load_profile_settings(options.profile, CredentialContext::of_process(nullptr));
  S3Config config;
  config.bucket = bucket;
  config.options = options;
  struct Place {
    std::string_view name;
    std::string value;
  };
  const bool ignore_configured = from_environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true";
  for (const Place& place :
       {Place{"endpoint_url", options.endpoint_url},
        Place{"AWS_ENDPOINT_URL_S3", ignore_configured ? "" : from_environment("AWS_ENDPOINT_URL_S3")},
        Place{"AWS_ENDPOINT_URL", ignore_configured ? "" : from_environment("AWS_ENDPOINT_URL")},
        Place{"endpoint_url of the profile", ignore_configured ? "" : profile.endpoint_url}}) {
    if (place.value.empty()) continue;
    config.endpoint = parse_endpoint_url(place.value, place.name);
    break;
  }
  for (const Place& place :
       {Place{"region", options.region}, Place{"AWS_REGION", from_environment("AWS_REGION")},
        Place{"AWS_DEFAULT_REGION", from_environment("AWS_DEFAULT_REGION")},
        Place{"region of the profile", profile.region}, Place{"", std::string(kFirstRegion)}}) {
    if (place.value.empty()) continue;
    check_region(place.value, place.name);
    config.region = place.value;
    break;
  }
  config.ca_bundle = options.ca_bundle;
  if (config.ca_bundle.empty() && from_environment("AWS_CA_BUNDLE").empty())
    config.ca_bundle = profile.ca_bundle;
  if (options.addressing_style == AddressingStyle::kAuto) {
    if (profile.addressing_style == "path") config.options.addressing_style = AddressingStyle::kPath;
    if (profile.addressing_style == "virtual" && !(config.endpoint && config.endpoint->is_ip_address()))
      config.options.addressing_style = AddressingStyle::kVirtual;
  }
  if (config.endpoint && config.endpoint->is_ip_address() &&
      options.addressing_style == AddressingStyle::kVirtual)
    throw ConfigError(
        fmt::format("addressing_style virtual does not go with the address {}: expected a host name.",
                    config.endpoint->host));
  return config;
}

std::string S3Config::identity() const {
  if (!endpoint || is_aws(*endpoint)) return "s3://" + bucket;
  return fmt::format("s3://{}@{}", bucket, endpoint->url());
}

std::string S3Config::endpoint_text(const std::string& for_region) const {
  return endpoint ? endpoint->url() : "https://" + aws_host(for_region);
}

S3Address address_of(const S3Config& config, const std::string& region) {
  const std::string scheme = !config.endpoint || config.endpoint->tls ? "https://" : "http://";
  std::string host = config.endpoint ? config.endpoint->authority() : aws_host(region);
  std::string path = config.endpoint ? config.endpoint->path : "";
  if (use_path_style(config)) {
    path += "/" + percent_encoded(config.bucket);
  } else {
    host = config.bucket + "." + host;
  }
  return {scheme + host, host, path};
}

}  // namespace alnair
