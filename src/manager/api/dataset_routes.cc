// Datasets: what is known of them, pinning, forgetting.
#include <fmt/format.h>

#include "manager/api/api.h"
#include "manager/api/fields.h"
#include "manager/api/json.h"
#include "manager/api/views.h"
#include "manager/service/time.h"

namespace alnair::manager {
namespace {

constexpr std::uint64_t kLongestPinMinutes = 366ull * 24 * 60;

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
  services.jobs.pin(id, *minutes == 0 ? 0 : system_ms() + static_cast<std::int64_t>(*minutes) * 60'000);
  return json_response(200, to_json(services.jobs.dataset(id)));
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
      {"DELETE", "/v1/datasets/{id}", Access::kClientOrAdmin,
       [&](const Call& call) {
         services.jobs.erase_dataset(dataset_of(services, call).record.id);
         return no_content();
       }},
  };
}

}  // namespace alnair::manager
