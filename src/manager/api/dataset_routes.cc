// Datasets: what is known of them, work on their chunks in the cache, pinning, forgetting.
#include <fmt/format.h>

#include "core/wall_clock.h"
#include "manager/api/api.h"
#include "manager/api/fields.h"
#include "manager/api/json.h"
#include "manager/api/views.h"

namespace alnair::manager {
namespace {

constexpr std::uint64_t kLongestPinMinutes = 366ull * 24 * 60;
constexpr std::size_t kMostKeys = 10'000, kLongestKey = 1024;

// The dataset that a call names, if it is the caller's; somebody else's is none.
Jobs::DatasetView dataset_of(Services& services, const Call& call) {
  const std::string& id = call.parameters.front();
  Jobs::DatasetView dataset = services.jobs.dataset(id);
  if (!call.admin && dataset.record.client != call.client)
    throw Problem(404, "unknown-dataset", fmt::format("there is no dataset \"{}\"", id));
  return dataset;
}

Response pin(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  const auto minutes = fields.number("minutes", kLongestPinMinutes);
  fields.end();
  if (!minutes) throw Problem(422, "missing-field", "minutes is missing (0: no longer pinned)");
  const std::string id = dataset_of(services, call).record.id;
  services.jobs.pin(id, *minutes == 0 ? 0 : milliseconds_now() + static_cast<std::int64_t>(*minutes) * 60'000);
  return json_response(200, to_json(services.jobs.dataset(id)));
}

Response begin(Services& services, const Call& call, const CopyPlan& plan) {
  const std::string id = dataset_of(services, call).record.id;
  services.jobs.work(id, plan);
  return json_response(202, to_json(services.jobs.dataset(id)));
}

Response warm(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  CopyPlan plan;
  plan.prefix = fields.text_or("prefix", kLongestKey, "");
  plan.keys = fields.texts("keys", kMostKeys, kLongestKey);
  plan.bytes_per_s = fields.number("bytes_per_s", 1ull << 40).value_or(0);
  fields.end();
  return begin(services, call, plan);
}

Response begin_without_fields(Services& services, const Call& call, Work work) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields(body, "").end();
  return begin(services, call, {.work = work});
}

}  // namespace

std::vector<Route> dataset_routes(Services& services) {
  return {
      {"GET", "/v1/datasets", Access::kClientOrAdmin,
       [&](const Call& call) {
         auto list = nlohmann::json::array();
         for (const auto& dataset : services.jobs.datasets(call.client)) list.push_back(to_json(dataset));
         return json_response(200, {{"datasets", list}});
       }},
      {"GET", "/v1/datasets/{id}", Access::kClientOrAdmin,
       [&](const Call& call) { return json_response(200, to_json(dataset_of(services, call))); }},
      {"POST", "/v1/datasets/{id}/pin", Access::kClientOrAdmin, [&](const Call& call) { return pin(services, call); }},
      {"POST", "/v1/datasets/{id}/warm", Access::kClientOrAdmin,
       [&](const Call& call) { return warm(services, call); }},
      {"POST", "/v1/datasets/{id}/check", Access::kClientOrAdmin,
       [&](const Call& call) { return begin_without_fields(services, call, Work::kCheck); }},
      {"POST", "/v1/datasets/{id}/evict", Access::kClientOrAdmin,
       [&](const Call& call) { return begin_without_fields(services, call, Work::kEvict); }},
      {"POST", "/v1/gc", Access::kAdmin,
       [&](const Call& call) {
         const auto body = parse_body(call.request.body, call.request.content_type);
         Fields(body, "").end();
         return json_response(200, {{"datasets", services.jobs.collect()}});
       }},
      {"POST", "/v1/datasets/{id}/cancel", Access::kClientOrAdmin,
       [&](const Call& call) {
         const auto body = parse_body(call.request.body, call.request.content_type);
         Fields(body, "").end();
         services.jobs.cancel_work(dataset_of(services, call).record.id);
         return no_content();
       }},
      {"DELETE", "/v1/datasets/{id}", Access::kClientOrAdmin,
       [&](const Call& call) {
         services.jobs.erase_dataset(dataset_of(services, call).record.id);
         return no_content();
       }},
  };
}

}  // namespace alnair::manager
