// Records as documents, in collections that other tools may read:
//
//   Client   {_id: username, username, password, s3auth, domain, status, lastHeartbeat, jobs, quota, createTime}
//   Job      {_id: jobId, meta: {username, jobId, name, node, datasource, resourceInfo, createTime, token, tokenTimeout,
//             dataset, state, version, failure}, QoS: {UseCache, MaxMemory, DurabilityInDisk, LazyLoading},
//             policy: {createTime, chunkSize}}
//   Session  {_id: hash of its token, username}
//   Dataset  {_id, username, and the fields of document_of()}
//   Manager  {_id: "schema", version} and {_id: "lease", ...}
//
// Job is the truth about jobs: Client's `jobs` and `lastHeartbeat` (when its last session or job began) are for readers
// of the database, written after it, and may lag behind it when a manager was killed in between.
#include <fmt/format.h>

#include "alnair/core/error.h"
#include "core/wall_clock.h"
#include "manager/identity/crypto.h"
#include "manager/records/json.h"
#include "manager/records/mongodb/database.h"
#include "manager/records/mongodb/lease.h"
#include "manager/records/records.h"
#include "manager/server/state_files.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr std::uint64_t kSchemaVersion = 1;

json date(std::int64_t ms) { return {{"$date", ms}}; }

json bytes(const std::string& text) { return json::binary({text.begin(), text.end()}); }
std::string text_of(const json& bytes) { return {bytes.get_binary().begin(), bytes.get_binary().end()}; }

// Names of a job's fields in document_of() and in MongoDB.
constexpr std::pair<const char*, const char*> kMeta[] = {
    {"created_ms", "createTime"}, {"token_life_s", "tokenTimeout"}, {"resources", "resourceInfo"}};
constexpr std::pair<const char*, const char*> kQos[] = {{"usecache", "UseCache"},
                                                        {"maxmemory", "MaxMemory"},
                                                        {"durabilityindisk", "DurabilityInDisk"},
                                                        {"lazyloading", "LazyLoading"}};

json take(json& object, const char* name) {
  json value = object.at(name);
  object.erase(name);
  return value;
}

json to_document(const JobRecord& record) {
  json meta = json::parse(document_of(record)), qos = take(meta, "qos"), policy = take(meta, "policy");
  for (const auto& [ours, theirs] : kQos) qos[theirs] = take(qos, ours);
  for (const auto& [ours, theirs] : kMeta) meta[theirs] = take(meta, ours);
  policy["chunkSize"] = take(policy, "chunk_size");
  policy["createTime"] = meta["createTime"] = date(record.created_ms);
  meta.update({{"username", record.client}, {"jobId", record.id}, {"name", record.name}, {"token", record.token_hash}});
  return {{"_id", record.id}, {"meta", meta}, {"QoS", qos}, {"policy", policy}};
}

JobRecord job_of(json document) {
  json& meta = document.at("meta");
  JobRecord record;
  record.id = document.at("_id");
  record.client = meta.at("username");
  record.name = meta.at("name");
  record.token_hash = meta.at("token");
  for (const auto& [ours, theirs] : kMeta) meta[ours] = take(meta, theirs);
  for (const auto& [ours, theirs] : kQos) document.at("QoS")[ours] = take(document.at("QoS"), theirs);
  document.at("policy")["chunk_size"] = take(document.at("policy"), "chunkSize");
  meta["qos"] = document.at("QoS");
  meta["policy"] = document.at("policy");
  read_document(meta.dump(), record);
  return record;
}

std::string holder_id(const std::string& directory) {
  return secret_file(directory + "/manager.id", "manager's id", random_id);
}

class MongodbRecords final : public Records {
 public:
  MongodbRecords(const std::string& directory, const MongodbOptions& options, const Patience& patience)
      : lock_(lock_state(directory, patience)),
        database_(options.uri, options.lease / 6, options.lease / 3),
        lease_(database_, holder_id(directory), options.lease, patience) {
    const auto found = database_.find("Manager", {{"_id", "schema"}});
    const std::uint64_t version = found.empty() ? 0 : found.front().value("version", std::uint64_t{0});
    if (version > kSchemaVersion)
      throw CacheError(fmt::format(
          "The manager's catalog, {}, is of version {}, and this alnair-manager knows versions up to {}: use the newer "
          "alnair-manager, or another database in [mongodb] uri.",
          database_.where(), version, kSchemaVersion));
    if (version == kSchemaVersion) return;
    database_.make_index("Job", "meta.username");
    for (const char* collection : {"Session", "Dataset"}) database_.make_index(collection, "username");
    database_.put("Manager", {{"_id", "schema"}, {"version", kSchemaVersion}});
  }

  void put_client(const ClientRecord& record) override {
    lease_.check();
    const json fields = {{"username", record.name},
                         {"password", record.password},
                         {"s3auth", bytes(record.s3_auth)},
                         {"domain", record.domain},
                         {"status", record.enabled ? "enabled" : "disabled"},
                         {"quota", to_json(record.quota)},
                         {"createTime", date(record.created_ms)}};
    if (!database_.update("Client", {{"_id", record.name}}, {{"$set", fields}})) {
      json document = fields;
      document.update({{"_id", record.name}, {"jobs", json::array()}, {"lastHeartbeat", date(record.created_ms)}});
      database_.put("Client", document);
    }
  }

  void erase_client(const std::string& name) override {
    lease_.check();
    database_.erase("Session", {{"username", name}});
    database_.erase("Job", {{"meta.username", name}});
    database_.erase("Dataset", {{"username", name}});
    database_.erase("Client", {{"_id", name}});  // last: until then the client can be erased again
  }

  std::vector<ClientRecord> clients() override {
    return read<ClientRecord>("Client", [](const json& document) {
      ClientRecord record{document.at("_id"),    document.at("password"),            text_of(document.at("s3auth")),
                          document.at("domain"), document.at("status") == "enabled", document.at("createTime"), {}};
      read_document(json{{"quota", document.at("quota")}}.dump(), record);
      return record;
    });
  }

  void put_session(const SessionRecord& record) override {
    lease_.check();
    database_.put("Session", {{"_id", record.token_hash}, {"username", record.client}});
    database_.update("Client", {{"_id", record.client}}, {{"$set", {{"lastHeartbeat", date(milliseconds_now())}}}});
  }

  void erase_session(const std::string& token_hash) override {
    lease_.check();
    database_.erase("Session", {{"_id", token_hash}});
  }

  std::vector<SessionRecord> sessions() override {
    return read<SessionRecord>("Session", [](const json& document) {
      return SessionRecord{document.at("_id"), document.at("username")};
    });
  }

  void put_job(const JobRecord& record) override {
    lease_.check();
    if (database_.put("Job", to_document(record)))
      database_.update("Client", {{"_id", record.client}},
                       {{"$addToSet", {{"jobs", record.id}}}, {"$set", {{"lastHeartbeat", date(milliseconds_now())}}}});
  }

  void erase_job(const std::string& id) override {
    lease_.check();
    database_.erase("Job", {{"_id", id}});
    database_.update("Client", {{"jobs", id}}, {{"$pull", {{"jobs", id}}}});
  }

  std::vector<JobRecord> jobs() override { return read<JobRecord>("Job", job_of); }

  void put_dataset(const DatasetRecord& record) override {
    lease_.check();
    json document = json::parse(document_of(record));
    document.update({{"_id", record.id}, {"username", record.client}});
    database_.put("Dataset", document);
  }

  void erase_dataset(const std::string& id) override {
    lease_.check();
    database_.erase("Dataset", {{"_id", id}});
  }

  std::vector<DatasetRecord> datasets() override {
    return read<DatasetRecord>("Dataset", [](const json& document) {
      DatasetRecord record;
      record.id = document.at("_id");
      record.client = document.at("username");
      read_document(document.dump(), record);
      return record;
    });
  }

  bool held() const override { return !lease_.lost(); }
  void check() override { lease_.check(); }

 private:
  template <typename Record, typename Read>
  std::vector<Record> read(const char* collection, const Read& read_one) {
    std::vector<Record> records;
    for (json& document : database_.find(collection)) {
      try {
        records.push_back(read_one(std::move(document)));
      } catch (const json::exception& error) {
        throw CacheError(fmt::format("A document of the collection {} in {} is damaged: {}", collection,
                                     database_.where(), error.what()));
      }
    }
    return records;
  }

  const FileDescriptor lock_;
  MongoDatabase database_;
  MongoLease lease_;
};

}  // namespace

std::unique_ptr<Records> open_mongodb_records(const std::string& directory, const MongodbOptions& options,
                                              const Patience& patience) {
  return std::make_unique<MongodbRecords>(directory, options, patience);
}

}  // namespace alnair::manager
