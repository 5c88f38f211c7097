#include "s3/credentials/sts.h"

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "core/read_file.h"
#include "s3/sigv4.h"
#include "s3/xml.h"
#include "source/url.h"

namespace alnair {
namespace {

constexpr int kAttempts = 3;

std::string endpoint_of(const AssumeRole& request) {
  if (!request.endpoint_url.empty()) return request.endpoint_url;
  if (request.region.empty()) return "https://sts.amazonaws.com";
  const bool china = request.region.compare(0, 3, "cn-") == 0;
  return fmt::format("https://sts.{}.amazonaws.com{}", request.region, china ? ".cn" : "");
}

std::string form_of(const char* action, const AssumeRole& request, const CredentialContext& context,
                    std::vector<QueryParameter> extra) {
  const auto since_epoch = std::chrono::duration_cast<std::chrono::seconds>(context.now().time_since_epoch());
  std::vector<QueryParameter> parameters = {
      {"Action", action},
      {"Version", "2011-06-15"},
      {"RoleArn", request.role_arn},
      {"RoleSessionName",
       request.session_name.empty() ? fmt::format("alnair-{}", since_epoch.count()) : request.session_name}};
  if (request.duration.count() > 0)
    parameters.push_back({"DurationSeconds", std::to_string(request.duration.count())});
  if (!request.external_id.empty()) parameters.push_back({"ExternalId", request.external_id});
  parameters.insert(parameters.end(), extra.begin(), extra.end());
  return canonical_query(parameters);
}

// Sends the form, signed unless `source` is null; waits a little and tries again when STS has a bad moment.
LoadedCredentials call_sts(const AssumeRole& request, const std::string& form, const S3Credentials* source,
                           const CredentialContext& context, const Interrupt& interrupt) {
  const Endpoint endpoint = parse_endpoint_url(endpoint_of(request), "the STS endpoint");
  const std::string path = endpoint.path + "/";
  HttpResponse answer;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    HttpRequest http;
    http.method = HttpMethod::kPost;
    http.url = endpoint.origin() + path;
    http.body = form;
    http.timeout = std::chrono::seconds(10);
    http.max_body_bytes = 64 << 10;
    std::vector<Header> headers = {{"Host", endpoint.authority()},
                                   {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
    if (source != nullptr) {
      SigningKeyCache keys;
      const std::string region = request.region.empty() ? "us-east-1" : request.region;
      const std::string payload_hash = hex(sha256(form));
      const auto added = sign_headers({"POST", path, "", headers, payload_hash}, *source, region,
                                      context.now(), keys, "sts");
      headers.insert(headers.end(), added.begin(), added.end());
    }
    for (std::size_t i = 1; i < headers.size(); ++i) http.headers.add(headers[i].name, headers[i].value);
    answer = context.http->call(std::move(http), interrupt);
    if (answer.failure == HttpFailure::kNone && answer.status < 500 && answer.status != 429) break;
  }
  if (answer.failure != HttpFailure::kNone)
    throw SourceError(fmt::format("No answer from {} when assuming the role {}: {}.", endpoint.url(),
                                  request.role_arn, answer.failure_text));
  if (!answer.ok()) {
    const auto error = parse_error_body(answer.body.text());
    const std::string text = fmt::format("{} refuses the role {}: {}.", endpoint.url(), request.role_arn,
                                         error ? fmt::format("{}: {}", error->code, error->message)
                                               : fmt::format("HTTP status {}", answer.status));
    if (answer.status >= 500 || answer.status == 429) throw SourceError(text);
    throw AccessError(text);
  }
  StsCredentials parsed = parse_sts_credentials(std::string(answer.body.text()));
  return {
      {std::move(parsed.access_key_id), std::move(parsed.secret_access_key), std::move(parsed.session_token)},
      SystemTime(std::chrono::milliseconds(parsed.expires_ms)),
      fmt::format("the role {}", request.role_arn)};
}

}  // namespace

LoadedCredentials assume_role(const AssumeRole& request, const S3Credentials& source,
                              const CredentialContext& context, const Interrupt& interrupt) {
  return call_sts(request, form_of("AssumeRole", request, context, {}), &source, context, interrupt);
}

LoadedCredentials assume_role_with_web_identity(const AssumeRole& request, const std::string& token_file,
                                                const CredentialContext& context,
                                                const Interrupt& interrupt) {
  auto token = read_small_file(token_file);
  if (!token) throw ConfigError(fmt::format("The web identity token file {} does not exist.", token_file));
  while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) token->pop_back();
  if (token->empty()) throw ConfigError(fmt::format("The web identity token file {} is empty.", token_file));
  const std::string form =
      form_of("AssumeRoleWithWebIdentity", request, context, {{"WebIdentityToken", std::move(*token)}});
  return call_sts(request, form, nullptr, context, interrupt);
}

}  // namespace alnair
