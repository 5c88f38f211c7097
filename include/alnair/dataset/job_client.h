// A training run's registration with a manager: registers in the background, waits for the manifest, keeps the
// registration alive with heartbeats, registers again where the manager has lost it, deregisters at the end.
//
//   auto job = alnair::JobClient::start({.url = "http://127.0.0.1:50051", .username = "alice", .password = …},
//                                       {.name = "resnet", .bucket = "pets"});
//   if (job->wait(std::chrono::seconds(600)).state == "ready") job->configure(options);
//   auto dataset = alnair::Dataset::open(options);
// Where Redis has a user for the job, its password is another one after each registration, and those of before end
// after a while: configure() gives datasets a file that always has the one of now.
//
// Thread safety: all methods may be called from any thread at once. One thread of its own talks to the manager; a
// forked child inherits what was known, and sends nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alnair/dataset/dataset.h"
#include "alnair/source/s3_source.h"

namespace alnair {

struct ManagerOptions {
  std::string url;  // "http://127.0.0.1:50051"
  std::string username;
  std::string password;
  std::string ca_bundle;                        // PEM file of certificates to trust; empty: the system's
  std::optional<S3Credentials> s3_credentials;  // given to the manager, which lists with them; else those that it knows
  std::string s3_region;
  std::string s3_endpoint_url;
  std::string tls_cert, tls_key;  // PEM files: this client's certificate, where the manager wants one
};

struct JobOptions {
  std::string name;
  std::string node;  // where it runs, for people
  std::string bucket;
  std::vector<std::string> keys;  // entries; empty: everything
  bool usecache = true;
  std::uint64_t maxmemory = 0;            // MiB
  std::uint64_t durabilityindisk = 1440;  // minutes
  bool lazyloading = true;
  bool single_pass = false;  // CacheOptions::single_pass; the manager copies nothing for it
  std::string resources;     // what it runs on, for people: a JSON object, as text, of at most 16 KiB; empty: none
  // Of an earlier registration, whose client has ended without a word: `id` and `redis` of its JobStatus. Processes that reach Redis by it
  // go on doing so. Empty: there was none.
  std::string earlier_id, earlier_redis;
};

struct JobStatus {
  std::string state = "connecting";  // then "listing", "warming", "ready" or "failed"
  std::string detail;                // why it failed, or what it waits for; one sentence, empty when all is well
  std::string id;
  std::string version;
  std::uint64_t objects = 0;  // listed so far; while it is warming: copied
  std::uint64_t bytes = 0;
  std::string redis;                    // CacheOptions::redis, with the password of the job's own user; empty: none
  std::string redis_password_file;      // has the password of now as long as the client lives; empty: there is none
  FlushOrder flush_policy = FlushOrder::kRecency;  // of the manager's flusher, as jobs are to have it
  std::string directory;                // CacheOptions::spill; empty: none
  std::uint32_t directory_mode = 0700;  // CacheOptions::spill_mode
  std::string key_namespace, domain;    // whose chunks those in the directory are, where there is no Redis
  std::uint64_t chunk_size = 0;         // that the manager cuts objects into
  bool single_pass = false;
  std::shared_ptr<const std::vector<std::byte>> manifest;  // once ready
  std::shared_ptr<const std::vector<std::byte>> hashes;    // DatasetOptions::hashes: once ready, with a directory and without Redis
};

// A chunk that no tier had, and where the manager has brought it: "redis", "directory" (by its hash, in hex), "source" (which no
// tier takes: the object's URL, good for some minutes), or "failed".
struct ChunkQuestion {
  std::string key;
  std::uint64_t chunk = 0;  // of the object
};
struct ChunkAnswer {
  std::string state, hash, url, failure;
};

// How full a tier of a node is that processes of the job use.
struct NodeTier {
  std::string tier;   // "memory", "disk"
  std::string place;  // tells several of a node apart (other users' or containers'), and says nothing else
  std::uint64_t used_bytes = 0;
  std::uint64_t limit_bytes = 0;  // 0: none, or not known
};

class JobClient {
 public:
  // Starts the thread and returns at once. `changed` (may be empty) is called on it after each change of the status; it
  // must not throw, nor call close(). Throws ConfigError: the URL is none.
  static std::shared_ptr<JobClient> start(const ManagerOptions& manager, const JobOptions& job,
                                          std::function<void(const JobStatus&)> changed = {});
  virtual ~JobClient() = default;  // as close(), for two seconds

  virtual JobStatus status() const = 0;
  // Blocks until the job is ready or has failed, at most `patience`. A failed one is registered again after a while.
  virtual JobStatus wait(std::chrono::milliseconds patience) const = 0;

  // Has chunks of a ready job's dataset brought into the cache. Waits, for a minute at most. Throws SourceError, TimeoutError.
  virtual std::vector<ChunkAnswer> locate(const std::vector<ChunkQuestion>& chunks) const = 0;

  // Makes heartbeats carry these counters (alnair::stats()) of processes that read for the job, and the tiers that they
  // use, in place of this process's own.
  virtual void report(std::map<std::string, double> counters, std::vector<NodeTier> tiers) = 0;

  // Goes on with other passwords, credentials or addresses: connects anew at once, and the job stays registered unless
  // they name another manager or client. What the manager refuses is logged, and the job goes on as it was. Throws
  // ConfigError: the URL is none.
  virtual void renew(const ManagerOptions& manager) = 0;

  // Deregisters the job, within `patience` at most, and ends the thread. Idempotent; never throws.
  virtual void close(std::chrono::milliseconds patience) = 0;

  // Of a ready job: makes `options` open its version, without listing, and share the job's domain in Redis and directory where
  // they name none of their own.
  void configure(DatasetOptions& options) const;
};

}  // namespace alnair
