#include "manager/api/views.h"

#include "manager/records/json.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

json progress(const JobView& job) {
  json result = {{"objects", job.objects}, {"bytes", job.bytes}, {"elapsed_s", job.elapsed_s}};
  const bool listing = job.record.state == JobState::kListing;
  const double rate = job.elapsed_s > 0 ? static_cast<double>(job.objects) / job.elapsed_s : 0;
  result["objects_per_s"] = listing ? rate : 0;
  // How many there will be is known where the dataset was listed before.
  result["eta_s"] = listing && rate > 0 && job.expected_objects > job.objects
                        ? json(static_cast<double>(job.expected_objects - job.objects) / rate)
                        : json(nullptr);
  return result;
}

json text_or_null(const std::string& text) { return text.empty() ? json(nullptr) : json(text); }

}  // namespace

json to_json(const Datasource& source) {
  return {{"name", source.name},
          {"bucket", source.bucket},
          {"keys", source.keys},
          {"endpoint_url", text_or_null(source.endpoint_url)},
          {"region", text_or_null(source.region)}};
}

json to_json(const JobView& job, const Config& config) {
  const JobRecord& record = job.record;
  return {{"id", record.id},
          {"client", record.client},
          {"name", record.name},
          {"node", record.node},
          {"state", to_string(record.state)},
          {"failure", text_or_null(record.failure)},
          {"version", text_or_null(record.version)},
          {"dataset", record.dataset},
          {"datasource", to_json(record.datasource)},
          {"qos", to_json(record.qos)},
          {"resources", json::parse(record.resources)},
          {"policy", {{"created_ms", record.created_ms}, {"chunk_size", record.chunk_size}}},
          {"cache", {{"domain", job.domain}, {"directory", text_or_null(config.backup_dir)}}},
          {"progress", progress(job)},
          {"created_ms", record.created_ms},
          {"token_life_s", record.token_life_s},
          {"heartbeat_age_s", job.heartbeat_age_s},
          {"expired", job.expired},
          {"report", json::parse(job.report)}};
}

json to_json(const Jobs::DatasetView& dataset) {
  const DatasetRecord& record = dataset.record;
  return {{"id", record.id},
          {"client", record.client},
          {"datasource", to_json(record.datasource)},
          {"version", text_or_null(record.version)},
          {"objects", record.objects},
          {"bytes", record.bytes},
          {"jobs", dataset.jobs},
          {"last_use_ms", record.last_use_ms},
          {"pinned_until_ms", record.pinned_until_ms}};
}

}  // namespace alnair::manager
