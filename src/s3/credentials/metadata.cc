#include "s3/credentials/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "core/read_file.h"
#include "s3/xml.h"
#include "source/url.h"

namespace alnair {
namespace {

constexpr char kContainerHost[] = "http://169.254.170.2";
constexpr char kInstanceHost[] = "http://169.254.169.254";
constexpr char kInstanceHostIpv6[] = "http://[fd00:ec2::254]";
constexpr char kRolePath[] = "/latest/meta-data/iam/security-credentials/";
constexpr char kTokenSeconds[] = "21600";

std::string string_field(const nlohmann::json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : "";
}

// Both services answer with the same fields.
LoadedCredentials parse_credentials(std::string_view body, const std::string& url, std::string origin) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_discarded() || !json.is_object())
    throw SourceError(fmt::format("The answer of {} is no JSON object with credentials.", url));
  LoadedCredentials loaded;
  loaded.keys = {string_field(json, "AccessKeyId"), string_field(json, "SecretAccessKey"),
                 string_field(json, "Token")};
  const std::string expiration = string_field(json, "Expiration");
  const auto expires = parse_iso8601_ms(expiration);
  if (loaded.keys.access_key_id.empty() || loaded.keys.secret_access_key.empty() ||
      (!expiration.empty() && !expires)) {
    const std::string code = string_field(json, "Code");
    throw SourceError(
        fmt::format("The answer of {} has no valid AccessKeyId, SecretAccessKey and Expiration{}.", url,
                    code.empty() || code == "Success" ? "" : fmt::format(" (its Code is {})", code)));
  }
  if (expires) loaded.expires = SystemTime(std::chrono::milliseconds(*expires));
  loaded.origin = std::move(origin);
  return loaded;
}

HttpRequest link_local_request(std::string url, std::chrono::milliseconds timeout) {
  HttpRequest request;
  request.url = std::move(url);
  request.connect_timeout = request.stall_timeout = request.timeout = timeout;
  request.max_body_bytes = 64 << 10;
  request.use_proxy = false;
  return request;
}

// A token is sent over plain HTTP only to where it cannot be read on the way.
bool may_be_asked(const Endpoint& endpoint) {
  constexpr std::string_view kHosts[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23",
                                         "[fd00:ec2::23]"};
  return endpoint.tls || std::find(std::begin(kHosts), std::end(kHosts), endpoint.host) != std::end(kHosts) ||
         (endpoint.is_ip_address() && endpoint.host.compare(0, 4, "127.") == 0);
}

std::string container_token(const CredentialContext& context) {
  std::string token, origin;
  if (const auto file = context.environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) {
    const auto text = read_small_file(*file);
    if (!text)
      throw ConfigError(
          fmt::format("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names {}, which does not exist.", *file));
    token = *text;
    origin = *file;
    while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  } else {
    token = context.environment("AWS_CONTAINER_AUTHORIZATION_TOKEN").value_or("");
    origin = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
  }
  if (std::any_of(token.begin(), token.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
    throw ConfigError(fmt::format("The authorization token in {} has a control character.", origin));
  return token;
}

int number_or(const std::optional<std::string>& text, int otherwise, int most) {
  int value = 0;
  if (!text) return otherwise;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  return error == std::errc() && end == text->data() + text->size() && value > 0 ? std::min(value, most)
                                                                                 : otherwise;
}

// Talks to one instance metadata service.
class InstanceMetadata {
 public:
  InstanceMetadata(const CredentialContext& context, const Interrupt& interrupt)
      : context_(context),
        interrupt_(interrupt),
        timeout_(std::chrono::seconds(number_or(context.environment("AWS_METADATA_SERVICE_TIMEOUT"), 1, 60))),
        attempts_(number_or(context.environment("AWS_METADATA_SERVICE_NUM_ATTEMPTS"), 1, 10)) {
    const bool ipv6 = context.environment("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").value_or("") == "IPv6";
    const auto configured = context.environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    base_ = parse_endpoint_url(configured.value_or(ipv6 ? kInstanceHostIpv6 : kInstanceHost),
                               "AWS_EC2_METADATA_SERVICE_ENDPOINT")
                .url();
  }

  const std::string& base() const { return base_; }

  // IMDSv2's session token; nullopt and `why`: there is no such service here.
  std::optional<std::string> token(std::string& why) {
    HttpRequest request = link_local_request(base_ + "/latest/api/token", timeout_);
    request.method = HttpMethod::kPut;
    request.headers.add("X-aws-ec2-metadata-token-ttl-seconds", kTokenSeconds);
    const HttpResponse answer = call(request);
    if (answer.ok() && !answer.body.empty()) return std::string(answer.body.text());
    why = answer.status == 0 ? fmt::format("no answer: {}", answer.failure_text)
                             : fmt::format("it gives no IMDSv2 token: HTTP status {}", answer.status);
    return std::nullopt;
  }

  HttpResponse get(const std::string& path, const std::string& token) {
    HttpRequest request = link_local_request(base_ + path, timeout_);
    request.headers.add("X-aws-ec2-metadata-token", token);
    return call(request);
  }

 private:
  HttpResponse call(const HttpRequest& request) {
    HttpResponse answer;
    for (int attempt = 0; attempt < attempts_; ++attempt) {
      answer = context_.http->call(request, interrupt_);
      if (answer.status != 0 && answer.status < 500) break;
    }
    return answer;
  }

  const CredentialContext& context_;
  const Interrupt& interrupt_;
  const std::chrono::milliseconds timeout_;
  const int attempts_;
  std::string base_;
};

}  // namespace

std::optional<LoadedCredentials> container_credentials(const CredentialContext& context,
                                                       const Interrupt& interrupt) {
  std::string url;
  if (const auto relative = context.environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) {
    if (relative->front() != '/')
      throw ConfigError("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with '/'.");
    url = kContainerHost + *relative;
  } else if (const auto full = context.environment("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
    url = *full;
  } else {
    return std::nullopt;
  }
  const std::string without_query = url.substr(0, url.find('?'));
  if (!may_be_asked(parse_endpoint_url(without_query, "AWS_CONTAINER_CREDENTIALS_FULL_URI")))
    throw ConfigError(fmt::format(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI '{}' is neither https nor on this machine; it is not asked.",
        without_query));

  HttpResponse answer;
  for (int attempt = 0; attempt < 3; ++attempt) {
    HttpRequest request = link_local_request(url, std::chrono::seconds(2));
    request.headers.add("Accept", "application/json");
    if (const std::string token = container_token(context); !token.empty())
      request.headers.add("Authorization", token);
    answer = context.http->call(std::move(request), interrupt);
    if (answer.status != 0 && answer.status < 500) break;
  }
  if (!answer.ok())
    throw SourceError(
        fmt::format("The container's credential service {} gives no credentials: {}.", without_query,
                    answer.status == 0 ? answer.failure_text : fmt::format("HTTP status {}", answer.status)));
  return parse_credentials(answer.body.text(), without_query, "the container's credential service");
}

InstanceCredentials instance_credentials(const CredentialContext& context, const Interrupt& interrupt) {
  std::string disabled = context.environment("AWS_EC2_METADATA_DISABLED").value_or("");
  std::transform(disabled.begin(), disabled.end(), disabled.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (disabled == "true") return {std::nullopt, "AWS_EC2_METADATA_DISABLED is set"};

  InstanceMetadata service(context, interrupt);
  std::string why;
  const auto token = service.token(why);
  if (!token) return {std::nullopt, fmt::format("{}: {}", service.base(), why)};
  const HttpResponse roles = service.get(kRolePath, *token);
  if (roles.status == 404) return {std::nullopt, fmt::format("{}: the instance has no role", service.base())};
  const std::string role(roles.body.text().substr(0, roles.body.text().find('\n')));
  if (!roles.ok() || role.empty())
    throw SourceError(fmt::format("The instance metadata service {} names no role: HTTP status {}.",
                                  service.base(), roles.status));
  const std::string path = kRolePath + role;
  const HttpResponse answer = service.get(path, *token);
  if (!answer.ok())
    throw SourceError(
        fmt::format("The instance metadata service {} gives no credentials for the role {}: HTTP status {}.",
                    service.base(), role, answer.status));
  return {parse_credentials(answer.body.text(), service.base() + path,
                            fmt::format("the instance's role {}", role)),
          ""};
}

}  // namespace alnair
