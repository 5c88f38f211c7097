// Durable records of a manager: its clients, their sessions, jobs and datasets.
// Implementations: SQLite (open_sqlite_records); MongoDB keeps the same records as documents. One contract suite holds
// for all.
//
// What put_* and erase_* have returned from survives a kill at any instant. The manager keeps what it works with in
// memory and reads records once, when it starts; heartbeats are not recorded.
//
// Thread safety: all methods may be called from any thread at once. All block, and throw CacheError: the catalog is
// locked, full, away, damaged or of a newer version; the message names it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "manager/records/chunk_use.h"
#include "manager/records/state_lock.h"

namespace alnair::manager {

// What a client may take; 0: without limit.
struct Quota {
  std::uint64_t cached_bytes = 0;           // of its datasets in the shared tiers
  std::uint64_t s3_requests_per_second = 0;  // that the manager makes for it

  bool operator==(const Quota&) const = default;
};

struct ClientRecord {
  std::string name;
  std::string password;  // scrypt, as hash_password() writes it
  std::string s3_auth;   // sealed (Sealer); empty: none was given
  std::string domain;    // whose cached bytes it shares; its own name unless an administrator joins several
  bool enabled = true;
  std::int64_t created_ms = 0;
  Quota quota;
};

struct SessionRecord {
  std::string token_hash;  // hash_token()
  std::string client;
};

struct Datasource {
  std::string name;
  std::string bucket;
  std::vector<std::string> keys;  // entries; empty: everything
  std::string endpoint_url;       // empty: AWS
  std::string region;             // empty: found out

  bool operator==(const Datasource&) const = default;
};

struct Qos {
  bool usecache = true;
  std::uint64_t maxmemory = 0;            // MiB; 0: no limit
  std::uint64_t durabilityindisk = 1440;  // minutes
  bool lazyloading = true;

  bool operator==(const Qos&) const = default;
};

enum class JobState { kListing, kWarming, kReady, kFailed };

struct JobRecord {
  std::string id;
  std::string client;
  std::string name;
  std::string node;
  std::string token_hash;
  std::string redis_hash;  // SHA-256 of the password of its user in Redis, in hex; empty: it has none
  std::vector<std::string> earlier_redis_hashes = {};  // likewise, of earlier registrations that processes may still use
  std::string resources;  // the client's own JSON object, as given
  std::string dataset;    // DatasetRecord::id
  Datasource datasource;
  Qos qos;
  bool single_pass = false;  // it reads each object once: reads the cache, and fills it with nothing
  std::int64_t created_ms = 0;
  std::uint64_t token_life_s = 0;
  std::uint64_t chunk_size = 0;
  JobState state = JobState::kListing;
  std::string version;  // of the manifest; empty: not listed yet
  std::string failure;  // one sentence; empty unless kFailed

  bool operator==(const JobRecord&) const = default;
};

// Work on a dataset's chunks that somebody has asked for, and that has not ended: begun again when a manager starts.
struct WantedWork {
  std::string work;  // "copy", "check", "evict"; empty: none
  std::string prefix;
  std::vector<std::string> keys;
  std::uint64_t bytes_per_s = 0;

  bool operator==(const WantedWork&) const = default;
};

// A datasource of a client, as it was last listed.
struct DatasetRecord {
  std::string id;
  std::string client;
  Datasource datasource;
  std::string version;
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;
  std::int64_t last_use_ms = 0;
  std::int64_t pinned_until_ms = 0;  // 0: not pinned
  std::uint64_t durability_minutes = 1440;  // without use until its chunks are evicted: as its last job asked
  std::uint64_t redis_bytes = 0, directory_bytes = 0;  // of it in the shared tiers, when that was last looked at
  std::int64_t looked_ms = 0;                          // 0: never
  ChunkUse use;                                        // by all its jobs so far
  WantedWork wanted = {};
  bool forgotten = false;  // to its client it is no more; it is kept until its chunks are evicted

  bool operator==(const DatasetRecord&) const = default;
};

class Records {
 public:
  virtual ~Records() = default;

  // put_*: inserts, or replaces the one of the same name, hash or id. erase_*: no matter whether it exists.
  virtual void put_client(const ClientRecord& record) = 0;
  virtual void erase_client(const std::string& name) = 0;  // with its sessions, jobs and datasets
  virtual std::vector<ClientRecord> clients() = 0;

  virtual void put_session(const SessionRecord& record) = 0;
  virtual void erase_session(const std::string& token_hash) = 0;
  virtual std::vector<SessionRecord> sessions() = 0;

  virtual void put_job(const JobRecord& record) = 0;
  virtual void erase_job(const std::string& id) = 0;
  virtual std::vector<JobRecord> jobs() = 0;

  virtual void put_dataset(const DatasetRecord& record) = 0;
  virtual void erase_dataset(const std::string& id) = 0;
  virtual std::vector<DatasetRecord> datasets() = 0;

  // False: another manager has taken the records over, for good. What is written from then on fails.
  virtual bool held() const { return true; }
  virtual void check() {}  // throws CacheError where the next write would be refused at once
};

// `directory` exists. Holds its lock as long as it lives: a second manager waits with `patience`, or gets a CacheError.
std::unique_ptr<Records> open_sqlite_records(const std::string& directory, const Patience& patience = {});

struct MongodbOptions {
  std::string uri;  // as libmongoc takes it; without a database's name: "alnair"
  std::chrono::milliseconds lease{20'000};
};

// `directory` exists; it is locked as with SQLite. Who writes holds a lease in the database as well, renewed all the
// time: it lapses when its holder has been gone for its length, and then whoever has waited takes it. A manager of the
// same `directory` takes it at once, as the lock says that the one before has ended. Another one's lease is waited for
// while it is not renewed, and with `patience` after that.
// Throws ConfigError: the URI is none, or this program was built without MongoDB; CacheError.
std::unique_ptr<Records> open_mongodb_records(const std::string& directory, const MongodbOptions& options,
                                              const Patience& patience = {});

// The names of states in the API and in records. Pure.
std::string to_string(JobState state);
std::optional<JobState> job_state(const std::string& name);

// Datasource, QoS and what else is no column of its own, as a JSON object; and back. Pure; throws CacheError for what
// is no such object.
std::string document_of(const JobRecord& record);
void read_document(const std::string& document, JobRecord& record);
std::string document_of(const ClientRecord& record);
void read_document(const std::string& document, ClientRecord& record);
std::string document_of(const DatasetRecord& record);
void read_document(const std::string& document, DatasetRecord& record);

}  // namespace alnair::manager
