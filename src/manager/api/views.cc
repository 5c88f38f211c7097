#include "manager/api/views.h"

#include "manager/api/json.h"
#include "manager/records/json.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

// Of `done` objects in a time, with more to come.
void add_rate(json& result, std::uint64_t done, std::uint64_t expected, double elapsed_s) {
  const double rate = elapsed_s > 0 ? static_cast<double>(done) / elapsed_s : 0;
  result["objects_per_s"] = rate;
  result["eta_s"] = rate > 0 && expected > done ? json(static_cast<double>(expected - done) / rate) : json(nullptr);
}

json progress(const JobView& job) {
  json result = {{"objects", job.objects},
                 {"bytes", job.bytes},
                 {"elapsed_s", job.elapsed_s},
                 {"objects_per_s", 0},
                 {"eta_s", nullptr}};
  // How many there will be is known where the dataset was listed before.
  if (job.record.state == JobState::kListing) add_rate(result, job.objects, job.expected_objects, job.elapsed_s);
  return result;
}

json to_json(const CopyStatus& copy) {
  json result = {{"work", to_string(copy.work)},
                 {"running", copy.running},
                 {"full", copy.full},
                 {"failure", copy.failure.empty() ? json(nullptr) : json(copy.failure)},
                 {"objects", copy.objects},
                 {"cached_bytes", copy.cached_bytes()},
                 {"redis_bytes", copy.redis_bytes},
                 {"directory_bytes", copy.directory_bytes},
                 {"total_objects", copy.total_objects},
                 {"total_bytes", copy.total_bytes},
                 {"copied_bytes", copy.copied_bytes},
                 {"failed_objects", copy.failed_objects},
                 {"damaged_chunks", copy.damaged_chunks},
                 {"elapsed_s", copy.elapsed_s}};
  add_rate(result, copy.objects, copy.total_objects, copy.elapsed_s);
  return result;
}

// As it was when the dataset was last looked at, or is while it is copied.
json cached(const Jobs::DatasetView& dataset) {
  const auto bytes = dataset.cached_bytes();
  if (!bytes) return nullptr;
  const auto whole = static_cast<double>(dataset.record.bytes);
  return {{"bytes", *bytes},
          {"percent", whole == 0 ? 100.0 : 100.0 * static_cast<double>(*bytes) / whole},
          {"redis_bytes", dataset.redis_bytes},
          {"directory_bytes", dataset.directory_bytes},
          {"looked_ms", dataset.record.looked_ms}};
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

json to_json(const JobView& job, const Services& services) {
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
          {"single_pass", record.single_pass},
          {"resources", json::parse(record.resources)},
          {"policy", {{"created_ms", record.created_ms}, {"chunk_size", record.chunk_size}}},
          {"cache",
           {{"domain", name_in_tiers(job.domain)},
            {"namespace", services.cache.key_namespace()},
            {"directory", text_or_null(services.config.backup_dir)},
            {"directory_mode", directory_mode(services.config)},
            {"flush_policy", services.config.flush_policy},
            {"redis", nullptr}}},
          {"progress", progress(job)},
          {"copy", job.copy ? to_json(*job.copy) : json(nullptr)},
          {"created_ms", record.created_ms},
          {"token_life_s", record.token_life_s},
          {"heartbeat_age_s", job.heartbeat_age_s},
          {"expired", job.expired},
          {"report", json::parse(job.report)}};
}

json to_json(const std::optional<TierUsage>& tier) {
  if (!tier) return nullptr;
  return {{"used_bytes", tier->used_bytes}, {"limit_bytes", tier->limit_bytes}};
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
          {"cached", cached(dataset)},
          {"capacity_bytes", number_or_null(dataset.capacity_bytes)},
          {"use", to_json(record.use)},
          {"copy", dataset.copy ? to_json(*dataset.copy) : json(nullptr)},
          {"last_use_ms", record.last_use_ms},
          {"pinned_until_ms", record.pinned_until_ms},
          {"durability_minutes", record.durability_minutes}};
}

json to_json(const MissAnswer& answer) {
  constexpr const char* kStates[] = {"pending", "redis", "directory", "source", "failed"};
  return {{"state", kStates[static_cast<int>(answer.state)]},
          {"hash", text_or_null(answer.hash)},
          {"url", text_or_null(answer.url)},
          {"failure", text_or_null(answer.failure)}};
}

}  // namespace alnair::manager
