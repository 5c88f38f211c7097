// Health, metrics, the configuration in force.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "alnair/core/stats.h"
#include "manager/api/api.h"
#include "manager/api/json.h"
#include "manager/api/views.h"

namespace alnair::manager {
namespace {

struct Totals {
  std::map<std::string, std::uint64_t> jobs = {{"listing", 0}, {"warming", 0}, {"ready", 0}, {"failed", 0}};
  std::uint64_t clients = 0, sessions = 0, datasets = 0, bytes = 0;
};

Totals totals(Services& services) {
  Totals sum;
  for (const auto& [state, count] : services.jobs.states()) sum.jobs[to_string(state)] = count;
  for (const ClientInfo& client : services.clients.list()) {
    ++sum.clients;
    sum.sessions += client.sessions;
  }
  for (const auto& dataset : services.jobs.datasets("")) {
    ++sum.datasets;
    sum.bytes += dataset.record.bytes;
  }
  return sum;
}

// Of all nodes together: a label for each would be without bound.
NodeTiers of_nodes(const Services& services) { return sum_of(services.usage.nodes(services.jobs.briefs(""))); }

std::string gauge(const char* name, const char* help, std::uint64_t value) {
  return fmt::format("# HELP {0} {1}\n# TYPE {0} gauge\n{0} {2}\n", name, help, value);
}

std::string metrics_text(Services& services, const HttpMetrics& metrics) {
  const Totals sum = totals(services);
  std::string text = metrics.text();
  std::string tier_bytes =
      "# HELP alnair_manager_tier_used_bytes Bytes in use, by tier; memory, disk: of all nodes together.\n"
      "# TYPE alnair_manager_tier_used_bytes gauge\n";
  std::string tier_limits = "# HELP alnair_manager_tier_limit_bytes Its limit; 0: none.\n"
                            "# TYPE alnair_manager_tier_limit_bytes gauge\n";
  text += "# HELP alnair_manager_jobs Live jobs by state.\n# TYPE alnair_manager_jobs gauge\n";
  for (const auto& [state, count] : sum.jobs)
    text += fmt::format("alnair_manager_jobs{{state=\"{}\"}} {}\n", state, count);
  text += gauge("alnair_manager_clients", "Clients.", sum.clients);
  text += gauge("alnair_manager_sessions", "Sessions of clients.", sum.sessions);
  text += gauge("alnair_manager_datasets", "Datasets that are known.", sum.datasets);
  text += gauge("alnair_manager_dataset_bytes", "Bytes of all objects of all datasets.", sum.bytes);
  text += gauge("alnair_manager_connections", "Open HTTP connections.", services.connections());
  text += gauge("alnair_manager_listings", "Listings that wait or run.", services.listings.running());
  text += gauge("alnair_manager_copies", "Copies, checks and evictions of datasets that wait or run.",
                services.cache.copies().running());
  text += fmt::format(
      "# HELP alnair_manager_listings_total Listings begun.\n# TYPE alnair_manager_listings_total counter\n"
      "alnair_manager_listings_total {}\n",
      services.listings.begun());
  // What live jobs and those of before have told since the manager's start.
  const ChunkUse usage = services.usage.total();
  text += "# HELP alnair_manager_job_hits_total Chunks that jobs found, by tier; source: fetched from S3.\n"
          "# TYPE alnair_manager_job_hits_total counter\n";
  for (std::size_t i = 0; i < kUsageTiers.size(); ++i)
    text += fmt::format("alnair_manager_job_hits_total{{tier=\"{}\"}} {}\n", kUsageTiers[i], usage.hits[i]);
  text += fmt::format(
      "# HELP alnair_manager_job_stalled_seconds_total Seconds that jobs waited for data.\n"
      "# TYPE alnair_manager_job_stalled_seconds_total counter\nalnair_manager_job_stalled_seconds_total {}\n",
      usage.stalled_s);
  const Domains::Usage shared = services.cache.last_usage();
  const NodeTiers nodes = of_nodes(services);
  for (const auto& [name, tier] : {std::pair{"memory", nodes.memory},
                                   {"disk", nodes.disk},
                                   {"redis", shared.redis},
                                   {"directory", shared.directory}}) {
    if (!tier) continue;
    tier_bytes += fmt::format("alnair_manager_tier_used_bytes{{tier=\"{}\"}} {}\n", name, tier->used_bytes);
    tier_limits += fmt::format("alnair_manager_tier_limit_bytes{{tier=\"{}\"}} {}\n", name, tier->limit_bytes);
  }
  text += tier_bytes + tier_limits;
  const auto failing = std::count_if(shared.redis_servers.begin(), shared.redis_servers.end(),
                                     [](const auto& server) { return !server.failure.empty(); });
  text +=
      "# HELP alnair_manager_redis_servers Masters of Redis, by whether they answer.\n"
      "# TYPE alnair_manager_redis_servers gauge\n";
  text += fmt::format(
      "alnair_manager_redis_servers{{health=\"ok\"}} {}\nalnair_manager_redis_servers{{health=\"failing\"}} {}\n",
      shared.redis_servers.size() - static_cast<std::size_t>(failing), failing);
  text += gauge("alnair_manager_unflushed_bytes", "Bytes that only Redis has, and the directory not yet.", shared.unflushed_bytes);
  text += fmt::format(
      "# HELP alnair_manager_unflushed_seconds For how long there have been such bytes.\n"
      "# TYPE alnair_manager_unflushed_seconds gauge\nalnair_manager_unflushed_seconds {:.1f}\n",
      shared.unflushed_s);
  for (const auto& [name, value] : stats())  // of the library: S3 requests above all
    if (name.starts_with("s3_"))
      text += fmt::format("# TYPE alnair_{0}_total counter\nalnair_{0}_total {1}\n", name, value);
  return text;
}

nlohmann::json tiers(Services& services) {
  const Domains::Usage usage = services.cache.usage();
  const NodeTiers nodes = of_nodes(services);
  return {{"memory", to_json(nodes.memory)},
          {"disk", to_json(nodes.disk)},
          {"redis", to_json(usage.redis)},
          {"directory", to_json(usage.directory)},
          {"unflushed_bytes", usage.unflushed_bytes},
          {"unflushed_s", usage.unflushed_s}};
}

}  // namespace

std::vector<Route> status_routes(Services& services, HttpMetrics& metrics) {
  return {
      {"GET", "/healthz", Access::kAnyone,
       [](const Call&) {
         return json_response(200, {{"status", "ok"}});
       }},
      {"GET", "/readyz", Access::kAnyone,
       [&](const Call&) {
         if (services.stopping()) throw Problem(503, "stopping", "the manager is stopping", 5);
         return json_response(200, {{"status", "ready"}});
       }},
      {"GET", "/metrics", Access::kAnyone,
       [&](const Call&) {
         Response response;
         response.content_type = "text/plain; version=0.0.4; charset=utf-8";
         response.body = metrics_text(services, metrics);
         return response;
       }},
      {"GET", "/v1/status", Access::kAdmin,
       [&](const Call&) {
         const Totals sum = totals(services);
         return json_response(200, {{"version", ALNAIR_VERSION},
                                    {"jobs", sum.jobs},
                                    {"clients", sum.clients},
                                    {"sessions", sum.sessions},
                                    {"datasets", sum.datasets},
                                    {"dataset_bytes", sum.bytes},
                                    {"connections", services.connections()},
                                    {"listings", services.listings.running()},
                                    {"copies", services.cache.copies().running()},
                                    {"tiers", tiers(services)}});
       }},
      {"GET", "/v1/config", Access::kAdmin,
       [&](const Call&) {
         auto sections = nlohmann::json::object();
         for (const ConfigValue& value : config_values(services.config))
           sections[value.section][value.key] = value.value;
         return json_response(200, sections);
       }},
  };
}

}  // namespace alnair::manager
