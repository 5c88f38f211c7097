#include "dataset/job/manager_api.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "source/url.h"

namespace alnair {
namespace {

constexpr std::uint64_t kLargestAnswer = 4ull << 30;  // a manifest of a hundred million objects

}  // namespace

ManagerApi::ManagerApi(const std::string& url, const std::string& ca_bundle, std::string tls_cert, std::string tls_key)
    : url_(parse_endpoint_url(url, "manager").url()),
      tls_cert_(std::move(tls_cert)),
      tls_key_(std::move(tls_key)),
      http_(make_http_client({.threads = 1, .max_connections = 1, .max_requests = 1, .ca_bundle = ca_bundle})) {}

HttpResponse ManagerApi::send(HttpMethod method, const std::string& path, const std::string& token, std::string body) {
  HttpRequest request;
  request.method = method;
  request.url = url_ + path;
  if (!token.empty()) request.headers.add("Authorization", "Bearer " + token);
  if (!body.empty()) request.headers.add("Content-Type", "application/json");
  request.body = std::move(body);
  request.timeout = timeout_;
  request.stall_timeout = timeout_;
  request.client_certificate = tls_cert_;
  request.client_key = tls_key_;
  request.max_body_bytes = kLargestAnswer;
  HttpResponse response = http_->call(std::move(request), interrupt_);
  if (response.failure != HttpFailure::kNone)
    throw ManagerFailure(0, "", fmt::format("the manager at {} does not answer: {}", url_, response.failure_text));
  if (response.ok()) return response;
  const auto problem = nlohmann::json::parse(response.body.text(), nullptr, false);
  if (!problem.is_object() || !problem.contains("type") || !problem["type"].is_string())
    throw ManagerFailure(response.status, "",
                         fmt::format("what answers at {} is no manager (status {})", url_, response.status));
  const std::string type = problem["type"];
  const auto retry_after = response.headers.find("Retry-After");
  throw ManagerFailure(response.status, type.substr(type.rfind('/') + 1),
                       fmt::format("the manager at {}: {}", url_, problem.value("detail", "")),
                       std::chrono::seconds(retry_after ? std::atoi(std::string(*retry_after).c_str()) : 0));
}

nlohmann::json ManagerApi::call(HttpMethod method, const std::string& path, const std::string& token,
                                const nlohmann::json& body) {
  const HttpResponse response = send(method, path, token, body.is_null() ? "" : body.dump());
  if (response.body.empty()) return nullptr;
  auto answer = nlohmann::json::parse(response.body.text(), nullptr, false);
  if (answer.is_discarded()) throw ManagerFailure(0, "", fmt::format("what answers at {} is no manager", url_));
  return answer;
}

View ManagerApi::download(const std::string& path, const std::string& token) {
  return send(HttpMethod::kGet, path, token, "").body;
}

}  // namespace alnair
