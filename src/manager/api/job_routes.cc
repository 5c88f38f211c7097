// Jobs: register, look at, keep alive, deregister; their manifests.
#include <fmt/format.h>

#include <charconv>
#include <semaphore>

#include "core/percent.h"
#include "manager/api/api.h"
#include "manager/api/fields.h"
#include "manager/api/json.h"
#include "manager/api/views.h"

namespace alnair::manager {
namespace {

constexpr std::size_t kMostKeys = 100'000;
constexpr std::size_t kLongestKey = 1024;  // S3's own limit
constexpr std::size_t kMostMisses = 1024;  // of a request
constexpr std::uint64_t kHashesAtOnce = 32'768;  // 1 MiB
constexpr std::chrono::milliseconds kMissPatience{200};
constexpr std::uint64_t kMostMinutes = 100ull * 366 * 24 * 60;

Datasource datasource(const nlohmann::json& object) {
  Fields fields(object, "datasource");
  Datasource source;
  source.bucket = fields.text("bucket", 255);
  source.name = fields.text_or("name", 253, source.bucket);
  source.keys = fields.texts("keys", kMostKeys, kLongestKey);
  source.endpoint_url = fields.endpoint_url("endpoint_url");
  source.region = fields.region("region");
  fields.end();
  if (source.bucket.find('/') != std::string::npos)
    throw Problem(422, "invalid-field", "datasource.bucket: expected the name of a bucket");
  return source;
}

Qos qos(const nlohmann::json* object) {
  Qos result;
  if (object == nullptr) return result;
  Fields fields(*object, "qos");
  result.usecache = fields.boolean("usecache").value_or(result.usecache);
  result.maxmemory = fields.number("maxmemory", 1ull << 40).value_or(result.maxmemory);
  result.durabilityindisk = fields.number("durabilityindisk", kMostMinutes).value_or(result.durabilityindisk);
  result.lazyloading = fields.boolean("lazyloading").value_or(result.lazyloading);
  fields.end();
  return result;
}

std::string object_text(const nlohmann::json* object, std::size_t longest, const char* name) {
  if (object == nullptr) return "{}";
  std::string text = object->dump();
  if (text.size() > longest)
    throw Problem(422, "invalid-field", fmt::format("{}: expected an object of at most {} bytes", name, longest));
  return text;
}

bool is_hex(const std::string& text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void read_earlier(const nlohmann::json* object, JobRequest& request) {
  if (object == nullptr) return;
  Fields fields(*object, "again");
  request.earlier_id = fields.text("id", 24);
  request.earlier_redis_hashes = fields.texts("redis_hashes", 8, 64);
  fields.end();
  if (!is_hex(request.earlier_id, 24)) throw Problem(422, "invalid-field", "again.id: expected the id of a job");
  for (const std::string& hash : request.earlier_redis_hashes)
    if (!is_hex(hash, 64)) throw Problem(422, "invalid-field", "again.redis_hashes: expected SHA-256 in lower-case hex");
}

Response register_job(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  JobRequest request;
  request.name = fields.text("name", 253);
  request.node = fields.text_or("node", 253, "");
  request.datasource = datasource(*fields.object("datasource", true));
  request.qos = qos(fields.object("qos", false));
  request.single_pass = fields.boolean("single_pass").value_or(false);
  request.resources = object_text(fields.object("resources", false), 16 << 10, "resources");
  read_earlier(fields.object("again", false), request);
  fields.end();
  const RegisteredJob registered = services.jobs.register_job(call.client, request);
  auto answer = to_json(registered.job, services);
  answer["token"] = registered.token;
  if (!registered.redis_url.empty()) answer["cache"]["redis"] = registered.redis_url;
  Response response = json_response(202, answer);
  response.headers.emplace_back("Location", "/v1/jobs/" + registered.job.record.id);
  return response;
}

Response heartbeat(Services& services, const Call& call) {
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  const auto* report = fields.object("report", false);
  fields.end();
  const std::string text = report == nullptr ? "" : object_text(report, 16 << 10, "report");
  const JobView job = services.jobs.heartbeat(call.parameters.front(), text);
  if (report != nullptr)
    services.jobs.used(job.record.id, services.usage.reported(job.record.id, *report, std::chrono::steady_clock::now()));
  return json_response(200, {{"id", job.record.id},
                             {"state", to_string(job.record.state)},
                             {"version", job.record.version},
                             {"token_life_s", job.record.token_life_s}});
}

Response manifest(Services& services, const Call& call) {
  const JobView job = services.jobs.get(call.parameters.front());
  if (job.record.state != JobState::kReady && job.record.state != JobState::kWarming)
    throw Problem(409, "not-ready", fmt::format("the job is {}: it has no manifest yet", to_string(job.record.state)),
                  1);
  const auto blob = services.catalog.manifest_blob(job.record.version);
  if (!blob)
    throw Problem(404, "unknown-manifest",
                  fmt::format("the manager does not keep manifest {} any more", job.record.version));
  Response response;
  response.content_type = "application/octet-stream";
  response.body.assign(reinterpret_cast<const char*>(blob->data()), blob->size());
  return response;
}

// A page of the content hashes of the dataset's chunks.
Response hashes(Services& services, const Call& call) {
  const auto given = call.request.query.find("from");
  const std::string text = given == call.request.query.end() ? "0" : given->second;
  std::uint64_t first = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), first);
  if (error != std::errc() || end != text.data() + text.size())
    throw Problem(422, "invalid-field", "from: expected the number of a chunk");
  Response response;
  response.content_type = "application/octet-stream";
  response.body = services.jobs.hashes(call.parameters.front(), first, kHashesAtOnce);
  return response;
}

// So few requests wait at once that workers (ServerOptions) stay free for others; those beyond ask again.
Response misses(Services& services, const Call& call) {
  static std::counting_semaphore<> waiting{16};
  const auto body = parse_body(call.request.body, call.request.content_type);
  Fields fields(body, "");
  std::vector<MissedChunk> chunks;
  for (const nlohmann::json* item : fields.objects("chunks", kMostMisses)) {
    Fields each(*item, fmt::format("chunks[{}]", chunks.size()));
    auto key = percent_decoded(each.text("key", 3 * kLongestKey));
    const auto chunk = each.number("chunk", 1ull << 40);
    each.end();
    if (!key || !chunk) throw Problem(422, "invalid-field", "chunks: expected a percent-encoded key and a chunk's number");
    chunks.push_back({std::move(*key), *chunk});
  }
  fields.end();
  const bool may_wait = waiting.try_acquire();
  std::vector<MissAnswer> answers;
  try {
    answers = services.jobs.misses(call.parameters.front(), chunks, may_wait ? kMissPatience : std::chrono::milliseconds(0));
  } catch (...) {
    if (may_wait) waiting.release();
    throw;
  }
  if (may_wait) waiting.release();
  auto list = nlohmann::json::array();
  bool pending = false;
  for (const MissAnswer& answer : answers) {
    pending |= answer.state == MissAnswer::State::kPending;
    list.push_back(to_json(answer));
  }
  return json_response(pending ? 202 : 200, {{"chunks", list}});
}

bool flag(const Request& request, const char* name) {
  const auto found = request.query.find(name);
  if (found == request.query.end() || found->second == "false") return false;
  if (found->second != "true") throw Problem(422, "invalid-field", fmt::format("{}: expected true or false", name));
  return true;
}

}  // namespace

std::vector<Route> job_routes(Services& services) {
  return {
      {"POST", "/v1/jobs", Access::kClient, [&](const Call& call) { return register_job(services, call); }},
      {"GET", "/v1/jobs", Access::kClientOrAdmin,
       [&](const Call& call) {
         auto list = nlohmann::json::array();
         for (const JobView& job : services.jobs.list(call.client)) list.push_back(to_json(job, services));
         return json_response(200, {{"jobs", list}});
       }},
      {"GET", "/v1/jobs/{id}", Access::kOwner,
       [&](const Call& call) {
         return json_response(200, to_json(services.jobs.get(call.parameters.front()), services));
       }},
      {"GET", "/v1/jobs/{id}/manifest", Access::kOwner, [&](const Call& call) { return manifest(services, call); }},
      {"GET", "/v1/jobs/{id}/hashes", Access::kOwner, [&](const Call& call) { return hashes(services, call); }, {"from"}},
      {"POST", "/v1/jobs/{id}/heartbeat", Access::kOwner, [&](const Call& call) { return heartbeat(services, call); }},
      {"POST", "/v1/jobs/{id}/misses", Access::kOwner, [&](const Call& call) { return misses(services, call); }},
      {"DELETE", "/v1/jobs/{id}", Access::kOwner,
       [&](const Call& call) {
         services.jobs.deregister(call.parameters.front(), flag(call.request, "delete_dataset"));
         return no_content();
       },
       {"delete_dataset"}},
  };
}

}  // namespace alnair::manager
