// What the dashboard shows, in one answer of bounded size: jobs, datasets, tiers, nodes, and how the cache is used.
#include <algorithm>
#include <map>
#include <tuple>

#include "core/wall_clock.h"
#include "manager/api/api.h"
#include "manager/api/json.h"
#include "manager/api/views.h"
#include "manager/dashboard/dashboard.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr std::size_t kMostRows = 200;  // of each list
constexpr double kLate = 60;            // seconds without a heartbeat

// The first of `all` in the order of `before`.
template <typename Row, typename Before>
std::vector<Row> first_rows(std::vector<Row> all, const Before& before) {
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), kMostRows));
  std::partial_sort(all.begin(), middle, all.end(), before);
  all.erase(middle, all.end());
  return all;
}

json row_of(const JobView& job, const ChunkUse& usage) {
  const JobRecord& record = job.record;
  return {{"id", record.id},
          {"name", record.name},
          {"client", record.client},
          {"node", record.node},
          {"state", to_string(record.state)},
          {"failure", record.failure.empty() ? json(nullptr) : json(record.failure)},
          {"objects", job.objects},
          {"bytes", job.bytes},
          {"expected_objects", job.expected_objects},
          {"reads", usage.reads},
          {"stalled_s", usage.reads > 0 ? json(usage.stalled_s) : json(nullptr)},
          {"elapsed_s", job.elapsed_s},
          {"heartbeat_age_s", job.heartbeat_age_s},
          {"expired", job.expired}};
}

json jobs(const std::vector<JobBrief>& all, const Services& services) {
  std::map<std::string, std::uint64_t> states;
  std::vector<std::pair<const JobBrief*, ChunkUse>> rows;
  for (const JobBrief& job : all) {
    ++states[to_string(job.state)];
    rows.emplace_back(&job, services.usage.of(job.id));
  }
  rows = first_rows(std::move(rows), [](const auto& a, const auto& b) {
    return std::tuple(b.second.stalled_s, b.first->created_ms) < std::tuple(a.second.stalled_s, a.first->created_ms);
  });
  auto shown = json::array();
  for (const auto& [job, told] : rows) {
    try {
      shown.push_back(row_of(services.jobs.get(job->id), told));
    } catch (const Problem&) {  // it has just ended
    }
  }
  return {{"total", all.size()}, {"states", states}, {"shown", shown}};
}

json datasets(const std::vector<Jobs::DatasetView>& all) {
  std::uint64_t bytes = 0;
  for (const auto& dataset : all) bytes += dataset.record.bytes;
  auto shown = json::array();
  for (const auto& dataset : first_rows(all, [](const auto& a, const auto& b) {
         return a.record.last_use_ms > b.record.last_use_ms;
       })) {
    const DatasetRecord& record = dataset.record;
    shown.push_back({{"id", record.id},
                     {"name", record.datasource.name},
                     {"bucket", record.datasource.bucket},
                     {"client", record.client},
                     {"objects", record.objects},
                     {"bytes", record.bytes},
                     {"cached_bytes", number_or_null(dataset.cached_bytes())},
                     {"redis_bytes", dataset.redis_bytes},
                     {"directory_bytes", dataset.directory_bytes},
                     {"capacity_bytes", number_or_null(dataset.capacity_bytes)},
                     {"hits", record.use.cache_hits()},
                     {"misses", record.use.source_hits()},
                     {"jobs", dataset.jobs.size()},
                     {"last_use_ms", record.last_use_ms},
                     {"pinned_until_ms", record.pinned_until_ms}});
  }
  return {{"total", all.size()}, {"bytes", bytes}, {"shown", shown}};
}

json nodes(const std::vector<JobBrief>& all, const std::map<std::string, NodeTiers>& tiers) {
  struct Node {
    std::string name;
    std::uint64_t jobs = 0, expired = 0;
    double heartbeat_age_s = 0;  // of its job that was heard of last
  };
  std::map<std::string, Node> by_name;
  for (const JobBrief& job : all) {
    Node& node = by_name[job.node];
    node.heartbeat_age_s = node.jobs == 0 ? job.heartbeat_age_s : std::min(node.heartbeat_age_s, job.heartbeat_age_s);
    ++node.jobs;
    if (job.expired) ++node.expired;
    node.name = job.node;
  }
  std::vector<Node> rows;
  for (auto& [name, node] : by_name) rows.push_back(std::move(node));
  auto shown = json::array();
  const std::size_t total = rows.size();
  for (const Node& node : first_rows(std::move(rows), [](const Node& a, const Node& b) {
         return std::tuple(b.heartbeat_age_s, a.name) < std::tuple(a.heartbeat_age_s, b.name);
       })) {
    const auto known = tiers.find(node.name);
    const NodeTiers its = known == tiers.end() ? NodeTiers() : known->second;
    shown.push_back({{"name", node.name},
                     {"jobs", node.jobs},
                     {"heartbeat_age_s", node.heartbeat_age_s},
                     {"memory", to_json(its.memory)},
                     {"disk", to_json(its.disk)},
                     {"health", node.expired == node.jobs ? "lost" : node.heartbeat_age_s > kLate ? "late" : "ok"}});
  }
  return {{"total", total}, {"shown", shown}};
}

json redis_servers(const std::vector<Domains::RedisServer>& all) {
  auto shown = json::array();
  for (const auto& server : first_rows(all, [](const auto& a, const auto& b) {
         return std::tuple(a.failure.empty(), a.name) < std::tuple(b.failure.empty(), b.name);
       }))
    shown.push_back({{"name", server.name},
                     {"health", server.failure.empty() ? "ok" : "failing"},
                     {"failure", server.failure.empty() ? json(nullptr) : json(server.failure)},
                     {"used_bytes", server.usage.used_bytes},
                     {"limit_bytes", server.usage.limit_bytes > 0 ? json(server.usage.limit_bytes) : json(nullptr)}});
  return {{"total", all.size()}, {"shown", shown}};
}

// Of the chunks that were read between two samples: all, and of those that each tier was asked for.
json history(const std::deque<UsageTotals::Sample>& samples) {
  auto points = json::array();
  for (std::size_t i = 1; i < samples.size(); ++i) {
    const ChunkUse &before = samples[i - 1].total, &now = samples[i].total;
    const double hits = now.cache_hits() - before.cache_hits(), misses = now.source_hits() - before.source_hits();
    if (hits + misses <= 0) continue;
    auto by_tier = json::array();
    for (std::size_t tier = 0; tier < kUsageTiers.size() - 1; ++tier) {
      const double found = now.hits[tier] - before.hits[tier], absent = now.misses[tier] - before.misses[tier];
      by_tier.push_back(found + absent > 0 ? json(found / (found + absent)) : json(nullptr));
    }
    points.push_back({{"time_ms", samples[i].time_ms}, {"ratio", hits / (hits + misses)}, {"tiers", by_tier}});
  }
  return points;
}

json tiers(const ChunkUse& usage, const NodeTiers& nodes, const Domains::Usage& shared) {
  const std::pair<const char*, const std::optional<TierUsage>&> all[] = {{"node memory", nodes.memory},
                                                                         {"node directory", nodes.disk},
                                                                         {"Redis", shared.redis},
                                                                         {"shared directory", shared.directory}};
  auto list = json::array();
  for (std::size_t i = 0; i < std::size(all); ++i)
    list.push_back({{"name", all[i].first},
                    {"used_bytes", all[i].second ? json(all[i].second->used_bytes) : json(nullptr)},
                    {"limit_bytes", all[i].second && all[i].second->limit_bytes > 0 ? json(all[i].second->limit_bytes)
                                                                                    : json(nullptr)},
                    {"hits", usage.hits[i]},
                    {"misses", usage.misses[i]}});
  return list;
}

Response overview(Services& services, const Call& call) {
  const std::vector<JobBrief> all = services.jobs.briefs(call.client);
  const auto of_nodes = services.usage.nodes(all);
  json answer = {{"version", ALNAIR_VERSION},
                 {"time_ms", milliseconds_now()},
                 {"uptime_s", std::chrono::duration<double>(std::chrono::steady_clock::now() - services.started).count()},
                 {"jobs", jobs(all, services)},
                 {"datasets", datasets(services.jobs.datasets(call.client))},
                 {"nodes", nodes(all, of_nodes)}};
  if (call.admin) {  // sums over all clients
    const ChunkUse usage = services.usage.total();
    answer["usage"] = {{"reads", usage.reads},
                       {"hits", usage.cache_hits()},
                       {"misses", usage.source_hits()},
                       {"s3_requests", usage.s3_requests},
                       {"s3_requests_saved", usage.cache_hits()},
                       {"stalled_s", usage.stalled_s}};
    const Domains::Usage shared = services.cache.last_usage();
    answer["tiers"] = tiers(usage, sum_of(of_nodes), shared);
    answer["redis_servers"] = redis_servers(shared.redis_servers);
    if (shared.redis && shared.directory) answer["flusher"] = {{"unflushed_bytes", shared.unflushed_bytes}, {"unflushed_s", shared.unflushed_s}};
    answer["history"] = history(services.usage.history());
  }
  return json_response(200, answer);
}

}  // namespace

std::vector<Route> overview_routes(Services& services) {
  return {
      {"GET", "/v1/overview", Access::kClientOrAdmin, [&](const Call& call) { return overview(services, call); }},
      {"GET", "/", Access::kAnyone,
       [](const Call&) {
         Response page;
         page.content_type = "text/html; charset=utf-8";
         page.body = kDashboardPage;
         page.headers = {{"Content-Security-Policy", kDashboardPolicy}, {"Referrer-Policy", "no-referrer"}};
         return page;
       }},
  };
}

}  // namespace alnair::manager
