// connect, disconnect; clients for the administrator.
#include <fmt/format.h>

#include <algorithm>

#include "manager/api/api.h"
#include "manager/api/fields.h"
#include "manager/api/json.h"
#include "manager/records/json.h"

namespace alnair::manager {
namespace {

constexpr std::size_t kLongestSecret = 4096;
constexpr std::uint64_t kMostBytes = 1ull << 60, kMostRequests = 1'000'000;

std::string client_name(Fields& fields, const char* field) {
  std::string name = fields.text(field, 64);
  const bool fit = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.' || c == '@';
  });
  if (!fit)
    throw Problem(422, "invalid-field", fmt::format("{}: expected letters, digits, '-', '_', '.' and '@'", field));
  return name;
}

std::optional<S3Auth> s3_auth(const nlohmann::json* object) {
  if (object == nullptr) return std::nullopt;
  Fields fields(*object, "s3");
  S3Auth auth;
  auth.credentials.access_key_id = fields.text("access_key_id", kLongestSecret);
  auth.credentials.secret_access_key = fields.text("secret_access_key", kLongestSecret);
  auth.credentials.session_token = fields.text_or("session_token", 4 * kLongestSecret, "");
  auth.region = fields.region("region");
  auth.endpoint_url = fields.endpoint_url("endpoint_url");
  fields.end();
  return auth;
}

std::optional<Quota> quota(const nlohmann::json* object) {
  if (object == nullptr) return std::nullopt;
  Fields fields(*object, "quota");
  const Quota quota{fields.number("cached_bytes", kMostBytes).value_or(0),
                    fields.number("s3_requests_per_second", kMostRequests).value_or(0)};
  fields.end();
  return quota;
}

nlohmann::json to_json(const ClientInfo& client) {
  return {{"name", client.name},      {"domain", client.domain},         {"enabled", client.enabled},
          {"s3", client.has_s3_auth}, {"created_ms", client.created_ms}, {"sessions", client.sessions},
          {"quota", to_json(client.quota)}};
}

Response connect(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  const std::string name = client_name(fields, "name");
  const std::string secret = fields.text("password", kLongestSecret);
  const auto auth = s3_auth(fields.object("s3", false));
  fields.end();
  const std::string token = services.clients.connect(name, secret, auth, call.request.peer);
  return json_response(200, {{"token", token},
                             {"client", name},
                             {"domain", services.clients.domain_of(name)},
                             {"token_life_s", services.clients.session_life().count()}});
}

Response add_client(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  const std::string name = client_name(fields, "name");
  const std::string secret = fields.text("password", kLongestSecret);
  const std::string domain = fields.has("domain") ? client_name(fields, "domain") : name;
  fields.end();
  services.clients.add(name, secret, domain);
  return json_response(201, {{"name", name}});
}

Response change_client(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  std::optional<std::string> secret;
  if (fields.has("password")) secret = fields.text("password", kLongestSecret);
  const auto enabled = fields.boolean("enabled");
  const auto limits = quota(fields.object("quota", false));
  fields.end();
  services.clients.change(call.parameters.front(), secret, enabled, limits);
  return no_content();
}

}  // namespace

std::vector<Route> client_routes(Services& services) {
  return {
      {"POST", "/v1/connect", Access::kAnyone, [&](const Call& call) { return connect(services, call); }},
      {"POST", "/v1/disconnect", Access::kClient,
       [&](const Call& call) {
         services.clients.disconnect(call.request.token);
         return no_content();
       }},
      {"GET", "/v1/clients", Access::kAdmin,
       [&](const Call&) {
         auto list = nlohmann::json::array();
         for (const ClientInfo& client : services.clients.list()) list.push_back(to_json(client));
         return json_response(200, {{"clients", list}});
       }},
      {"POST", "/v1/clients", Access::kAdmin, [&](const Call& call) { return add_client(services, call); }},
      {"POST", "/v1/clients/{name}", Access::kAdmin, [&](const Call& call) { return change_client(services, call); }},
      {"DELETE", "/v1/clients/{name}", Access::kAdmin,
       [&](const Call& call) {
         services.clients.remove(call.parameters.front());
         services.jobs.forget_client(call.parameters.front());
         return no_content();
       }},
  };
}

}  // namespace alnair::manager
