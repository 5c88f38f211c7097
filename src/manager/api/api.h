// The manager's HTTP API: which request is served by what, and who may send it. docs/manager.md describes it.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alnair/catalog/catalog.h"
#include "manager/api/http_metrics.h"
#include "manager/cache/job_cache.h"
#include "manager/config/config.h"
#include "manager/http/message.h"
#include "manager/service/clients.h"
#include "manager/service/jobs.h"
#include "manager/service/listings.h"
#include "manager/service/usage.h"

namespace alnair::manager {

// What the API serves from; all of it outlives the Api.
struct Services {
  const Config& config;
  Catalog& catalog;
  Clients& clients;
  Listings& listings;
  Jobs& jobs;
  UsageTotals& usage;
  JobCache& cache;
  std::string admin_token_hash;
  std::function<bool()> stopping;
  std::function<std::uint64_t()> connections;
  std::chrono::steady_clock::time_point started;
};

// Who may send a request. kOwner: a job's token for that job, a session of its client, or the administrator.
enum class Access { kAnyone, kClient, kAdmin, kClientOrAdmin, kOwner };

// A request that has been let in.
struct Call {
  const Request& request;
  std::vector<std::string> parameters;  // what the pattern's {…} stand for, in order
  bool admin = false;
  std::string client;  // whose session or job it is; empty for the administrator
};

struct Route {
  std::string method;
  std::string pattern;  // "/v1/jobs/{id}/heartbeat"
  Access access;
  std::function<Response(const Call&)> serve;
  std::vector<std::string> query = {};  // names of parameters that it takes
};

std::vector<Route> client_routes(Services& services);
std::vector<Route> job_routes(Services& services);
std::vector<Route> dataset_routes(Services& services);
std::vector<Route> overview_routes(Services& services);
std::vector<Route> status_routes(Services& services, HttpMetrics& metrics);

class Api {
 public:
  explicit Api(Services services);

  // Never throws: every failure is a problem document.
  Response handle(const Request& request);

  const std::vector<Route>& routes() const { return routes_; }

 private:
  Response serve(const Request& request, const Route*& route);
  Call admit(const Request& request, const Route& route, std::vector<std::string> parameters) const;

  Services services_;
  HttpMetrics metrics_;
  std::vector<Route> routes_;
};

}  // namespace alnair::manager
