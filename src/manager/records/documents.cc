#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "manager/records/json.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr const char* kStates[] = {"listing", "warming", "ready", "failed"};

json to_json(const Datasource& source) {
  return {{"name", source.name},
          {"bucket", source.bucket},
          {"keys", source.keys},
          {"endpoint_url", source.endpoint_url},
          {"region", source.region}};
}

Datasource datasource(const json& value) {
  return {value.at("name"), value.at("bucket"), value.at("keys"), value.at("endpoint_url"), value.at("region")};
}

ChunkUse chunk_use(const json& value) {
  ChunkUse use{.reads = value.at("reads"), .stalled_s = value.at("stalled_s"), .s3_requests = value.at("s3_requests")};
  for (std::size_t i = 0; i < kUsageTiers.size(); ++i)
    use.hits[i] = value.at("hits").value(std::string(kUsageTiers[i]), 0.0);
  return use;
}

// Calls `read` with the parsed document; what is malformed becomes a CacheError.
template <typename Read>
void parse(const std::string& document, const Read& read) {
  try {
    read(json::parse(document));
  } catch (const json::exception& error) {
    throw CacheError(std::string("A record of the manager's catalog is damaged: ") + error.what());
  }
}

}  // namespace

std::string to_string(JobState state) { return kStates[static_cast<int>(state)]; }

std::optional<JobState> job_state(const std::string& name) {
  for (int i = 0; i < 4; ++i)
    if (name == kStates[i]) return static_cast<JobState>(i);
  return std::nullopt;
}

std::string document_of(const JobRecord& record) {
  return json{{"node", record.node},
              {"redis_hash", record.redis_hash},
              {"earlier_redis_hashes", record.earlier_redis_hashes},
              {"single_pass", record.single_pass},
              {"resources", record.resources},
              {"dataset", record.dataset},
              {"datasource", to_json(record.datasource)},
              {"qos", to_json(record.qos)},
              {"created_ms", record.created_ms},
              {"token_life_s", record.token_life_s},
              {"policy", {{"chunk_size", record.chunk_size}}},
              {"state", to_string(record.state)},
              {"version", record.version},
              {"failure", record.failure}}
      .dump(-1, ' ', false, json::error_handler_t::replace);  // a failure may quote what is no UTF-8
}

void read_document(const std::string& document, JobRecord& record) {
  parse(document, [&](const json& value) {
    record.node = value.at("node");
    record.redis_hash = value.value("redis_hash", "");
    record.earlier_redis_hashes = value.value("earlier_redis_hashes", std::vector<std::string>());
    record.single_pass = value.value("single_pass", false);
    record.resources = value.at("resources");
    record.dataset = value.at("dataset");
    record.datasource = datasource(value.at("datasource"));
    const json& qos = value.at("qos");
    record.qos = {qos.at("usecache"), qos.at("maxmemory"), qos.at("durabilityindisk"), qos.at("lazyloading")};
    record.created_ms = value.at("created_ms");
    record.token_life_s = value.at("token_life_s");
    record.chunk_size = value.at("policy").at("chunk_size");
    const auto state = job_state(value.at("state"));
    if (!state) throw CacheError("A record of the manager's catalog is damaged: a job is in no known state");
    record.state = *state;
    record.version = value.at("version");
    record.failure = value.at("failure");
  });
}

std::string document_of(const ClientRecord& record) { return json{{"quota", to_json(record.quota)}}.dump(); }

void read_document(const std::string& document, ClientRecord& record) {
  parse(document, [&](const json& value) {
    if (!value.contains("quota")) return;  // of an older version
    const json& quota = value.at("quota");
    record.quota = {quota.at("cached_bytes"), quota.at("s3_requests_per_second")};
  });
}

std::string document_of(const DatasetRecord& record) {
  return json{{"datasource", to_json(record.datasource)},
              {"version", record.version},
              {"objects", record.objects},
              {"bytes", record.bytes},
              {"last_use_ms", record.last_use_ms},
              {"pinned_until_ms", record.pinned_until_ms},
              {"durability_minutes", record.durability_minutes},
              {"redis_bytes", record.redis_bytes},
              {"directory_bytes", record.directory_bytes},
              {"looked_ms", record.looked_ms},
              {"use", to_json(record.use)},
              {"wanted",
               {{"work", record.wanted.work},
                {"prefix", record.wanted.prefix},
                {"keys", record.wanted.keys},
                {"bytes_per_s", record.wanted.bytes_per_s}}},
              {"forgotten", record.forgotten}}
      .dump();
}

void read_document(const std::string& document, DatasetRecord& record) {
  parse(document, [&](const json& value) {
    record.datasource = datasource(value.at("datasource"));
    record.version = value.at("version");
    record.objects = value.at("objects");
    record.bytes = value.at("bytes");
    record.last_use_ms = value.at("last_use_ms");
    record.pinned_until_ms = value.at("pinned_until_ms");
    // What follows came later.
    record.durability_minutes = value.value("durability_minutes", record.durability_minutes);
    record.redis_bytes = value.value("redis_bytes", record.redis_bytes);
    record.directory_bytes = value.value("directory_bytes", record.directory_bytes);
    record.looked_ms = value.value("looked_ms", record.looked_ms);
    if (const auto use = value.find("use"); use != value.end()) record.use = chunk_use(*use);
    if (const auto wanted = value.find("wanted"); wanted != value.end())
      record.wanted = {wanted->at("work"), wanted->at("prefix"), wanted->at("keys"), wanted->at("bytes_per_s")};
    record.forgotten = value.value("forgotten", false);
  });
}

}  // namespace alnair::manager
