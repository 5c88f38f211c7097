#include "manager/api/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>

#include "alnair/core/error.h"
#include "core/log.h"
#include "core/nearest_names.h"
#include "manager/server/log_lines.h"

namespace alnair::manager {
namespace {

// The segments that a pattern's {…} stand for; nullopt: the path is another one.
std::optional<std::vector<std::string>> match(std::string_view pattern, const std::vector<std::string>& path) {
  std::vector<std::string> parameters;
  std::size_t segment = 0;
  while (pattern.size() > 1) {
    pattern.remove_prefix(1);  // the slash
    const std::string_view expected = pattern.substr(0, pattern.find('/'));
    pattern.remove_prefix(expected.size());
    if (segment == path.size()) return std::nullopt;
    if (expected.starts_with('{'))
      parameters.push_back(path[segment]);
    else if (expected != path[segment])
      return std::nullopt;
    ++segment;
  }
  if (segment != path.size()) return std::nullopt;
  return parameters;
}

// What is misspelt must not do something else. Probes and browsers may add what they like to what anybody may ask for.
void check_query(const Request& request, const Route& route) {
  if (route.access == Access::kAnyone) return;
  for (const auto& [name, value] : request.query) {
    if (std::find(route.query.begin(), route.query.end(), name) != route.query.end()) continue;
    const auto near = nearest_names(name, route.query, 1);
    throw Problem(422, "unknown-field",
                  fmt::format("\"{}\" is no parameter of this request{}", name,
                              near.empty() ? "" : fmt::format("; did you mean {}?", near.front())));
  }
}

std::string name_of(const Route& route) { return route.method + " " + route.pattern; }

}  // namespace

Api::Api(Services services) : services_(std::move(services)) {
  for (auto routes : {client_routes(services_), job_routes(services_), dataset_routes(services_),
                      overview_routes(services_), status_routes(services_, metrics_)})
    std::move(routes.begin(), routes.end(), std::back_inserter(routes_));
  for (const Route& route : routes_) metrics_.add_route(name_of(route));
}

Response Api::handle(const Request& request) {
  const LogOfRequest logged(request.id);
  const auto start = std::chrono::steady_clock::now();
  const Route* route = nullptr;
  Response response;
  LogLevel level = LogLevel::kDebug;
  std::string failure;
  try {
    response = serve(request, route);
  } catch (const Problem& problem) {
    failure = problem.what();
    level = problem.status() == 401 || problem.status() == 429 ? LogLevel::kWarning : LogLevel::kInfo;
    response = problem_response(problem, request.id);
  } catch (const ConfigError& error) {  // of what the client asked for: a bucket's name, an endpoint
    failure = error.what();
    level = LogLevel::kInfo;
    response = problem_response({422, "invalid-field", error.what()}, request.id);
  } catch (const CacheError& error) {
    failure = error.what();
    level = LogLevel::kError;
    response = problem_response({503, "catalog-unavailable", error.what(), 5}, request.id);
  } catch (const std::exception& error) {
    failure = error.what();
    level = LogLevel::kError;
    response = problem_response({500, "internal", "the manager's log says more under this request's id"}, request.id);
  }
  const auto time = std::chrono::steady_clock::now() - start;
  // A path may hold anything, so only the route is logged.
  const std::string name = route == nullptr ? "none" : name_of(*route);
  metrics_.count(name, response.status, time);
  if (response.status < 400 && request.method != "GET" && name.find("heartbeat") == std::string::npos)
    level = LogLevel::kInfo;
  log(level, "{} from {} -> {} in {:.1f} ms{}{}", name, request.peer, response.status,
      std::chrono::duration<double, std::milli>(time).count(), failure.empty() ? "" : ": ", failure);
  return response;
}

Response Api::serve(const Request& request, const Route*& route) {
  std::string allowed;
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  for (const Route& candidate : routes_) {
    auto parameters = match(candidate.pattern, request.path);
    if (!parameters) continue;
    if (candidate.method != method) {
      allowed += (allowed.empty() ? "" : ", ") + candidate.method;
      continue;
    }
    route = &candidate;
    // What asks for health (Kubernetes' probes) has no certificate.
    if (!request.certificate_refusal.empty() && candidate.pattern != "/healthz" && candidate.pattern != "/readyz")
      throw Problem(403, "client-certificate", request.certificate_refusal);
    const Call call = admit(request, candidate, std::move(*parameters));
    check_query(request, candidate);
    return candidate.serve(call);
  }
  if (allowed.empty()) throw Problem(404, "unknown-path", "there is nothing at this path");
  Response response = problem_response({405, "unknown-method", "this path takes " + allowed}, request.id);
  response.headers.emplace_back("Allow", allowed);
  return response;
}

Call Api::admit(const Request& request, const Route& route, std::vector<std::string> parameters) const {
  Call call{request, std::move(parameters), false, ""};
  if (route.access == Access::kAnyone) return call;
  if (request.token.empty())
    throw Problem(401, "no-token",
                  "expected a header \"Authorization: Bearer TOKEN\" with the token of a session or job");
  if (equal_secrets(hash_token(request.token), services_.admin_token_hash)) {
    if (route.access == Access::kClient)
      throw Problem(403, "clients-only", "the administrator has no S3 credentials: connect as a client");
    call.admin = true;
    return call;
  }
  std::optional<std::string> job;
  if (const auto client = services_.clients.client_of(request.token)) {
    call.client = *client;
  } else if (job = services_.jobs.job_of(request.token); job) {
    call.client = services_.jobs.get(*job).record.client;
  } else {
    throw Problem(401, "invalid-token", "the token is unknown or has expired: connect again");
  }
  if (route.access == Access::kAdmin) throw Problem(403, "administrators-only", "this needs the administrator's token");
  if (route.access == Access::kOwner) {
    // Somebody else's job is none.
    const std::string& id = call.parameters.front();
    if (services_.jobs.get(id).record.client != call.client || (job && *job != id))
      throw Problem(404, "unknown-job", fmt::format("there is no job \"{}\" (any more)", id));
  } else if (job) {
    throw Problem(403, "sessions-only", "a job's token is for that job only: connect for a session's token");
  }
  return call;
}

}  // namespace alnair::manager
