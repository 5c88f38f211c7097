// Live jobs: registered, listed and copied in the background, kept alive by heartbeats, deregistered.
//
// What register_job() and deregister() have returned from is in the records. Heartbeats are in memory only: when the
// manager starts, every job's clock does too.
//
// Thread-safe. Methods block on the records; they throw Problem for what the caller did wrong, CacheError for the
// records.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "manager/cache/job_cache.h"
#include "manager/records/records.h"
#include "manager/service/clients.h"
#include "manager/service/listings.h"

namespace alnair::manager {

// What a client asks for.
struct JobRequest {
  std::string name;
  std::string node;
  std::string resources;  // a JSON object, as text
  Datasource datasource;
  Qos qos;
  bool single_pass = false;  // as JobRecord has it
};

struct JobView {
  JobRecord record;
  std::string domain;
  std::uint64_t objects = 0;  // listed so far, or of the dataset
  std::uint64_t bytes = 0;
  std::uint64_t expected_objects = 0;  // as listed the last time; 0: never
  double elapsed_s = 0;                // since registration, in this manager's life
  double heartbeat_age_s = 0;          // since the last heartbeat, or the manager's start
  bool expired = false;                // its token is void; another heartbeat of its client revives it
  std::string report;                  // what the last heartbeat carried: a JSON object, as text
  std::optional<CopyStatus> copy;      // of its dataset, once one has begun
};

struct RegisteredJob {
  std::string token;
  std::string redis_url;  // with the password of its user; empty: there is no Redis for it
  JobView job;
};

class Jobs {
 public:
  struct Options {
    std::chrono::seconds token_life{600};
    std::chrono::seconds grace{600};
    std::size_t max_jobs = 100'000;
    std::size_t max_jobs_per_client = 10'000;
  };
  // `cache` may be null: then nothing is copied, and jobs are told of no Redis.
  Jobs(Records& records, Clients& clients, Listings& listings, JobCache* cache, Options options, Clock clock);

  // Reads the records, and goes on with registrations that were in progress.
  void resume();

  RegisteredJob register_job(const std::string& client, const JobRequest& request);  // Problem: 429 too many jobs

  // The job whose token it is, while that is not expired.
  std::optional<std::string> job_of(const std::string& token) const;

  // Renews the token, and keeps what the job reports. Problem: 404.
  JobView heartbeat(const std::string& id, const std::string& report);

  // Brings chunks of the job's dataset into the cache (Misses::answer). Problem: 404; 409: there is no manifest yet, or no cache.
  std::vector<MissAnswer> misses(const std::string& id, const std::vector<MissedChunk>& chunks,
                                 std::chrono::milliseconds patience) const;

  // Ends a job; one that does not exist is a Problem 404. With `delete_dataset`, its dataset's record too if no other
  // job of the client uses it.
  void deregister(const std::string& id, bool delete_dataset);
  void forget_client(const std::string& client);  // its jobs and datasets, when the client is removed

  JobView get(const std::string& id) const;                    // Problem: 404
  std::vector<JobView> list(const std::string& client) const;  // "": of all clients

  struct DatasetView {
    DatasetRecord record;
    std::vector<std::string> jobs;  // ids of live ones
    std::optional<CopyStatus> copy;  // of the work on its chunks that goes on, else of the last
  };
  std::vector<DatasetView> datasets(const std::string& client) const;
  DatasetView dataset(const std::string& id) const;        // Problem: 404
  void pin(const std::string& id, std::int64_t until_ms);  // 0: no longer. Problem: 404
  void erase_dataset(const std::string& id);               // and evicts it. Problem: 404; 409 while a job uses it
  // Begins work on the dataset's chunks, in the background. Problem: 404; 409: no cache, other work goes on; of an eviction,
  // also: a job uses it, it is pinned.
  void work(const std::string& id, CopyPlan plan);
  void cancel_work(const std::string& id);  // Problem: 404
  // Evicts datasets that no job has used for durabilityindisk minutes and that are not pinned. Returns their ids.
  std::vector<std::string> collect();
  // Says in the directory that the chunks of datasets that live jobs use, or that are pinned, are to stay. Waits. Throws only what
  // `interrupt` throws.
  void name_chunks(const Interrupt& interrupt);

  void sweep();  // deregisters jobs whose grace has ended

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Job {
    JobRecord record;
    Time registered;
    Time heartbeat;
    std::string report;
  };
  void begin_listing(const JobRecord& record);
  void listed(const std::string& id, const ListingStatus& status);
  void copied(const std::string& id, const CopyStatus& status);
  void put_dataset_and_job(const std::optional<DatasetRecord>& dataset, const JobRecord& record);
  JobView view(const Job& job) const;
  std::uint64_t room_for(const DatasetRecord& record) const;  // in its client's quota of cached bytes
  Job& find(const std::string& id);
  const Job& find(const std::string& id) const;
  DatasetView dataset_view(const DatasetRecord& record) const;
  DatasetView unused(const std::string& id) const;
  CopyPlan eviction_of(const DatasetRecord& record) const;
  void evict_for_good(const DatasetRecord& record);

  Records& records_;
  Clients& clients_;
  Listings& listings_;
  JobCache* const cache_;
  const Options options_;
  const Clock clock_;
  std::mutex writing_;  // held while records change, so that they change in the order of memory
  mutable std::mutex mutex_;
  std::map<std::string, Job> jobs_;
  std::map<std::string, std::string> tokens_;  // hash to job
  std::map<std::string, DatasetRecord> datasets_;
  std::map<std::string, std::int64_t> collected_;  // by dataset: its last use, when it was evicted for not being used
};

// Equal for equal datasources of one client, whatever the order of their keys. Pure.
std::string dataset_id(const std::string& client, const Datasource& datasource);

}  // namespace alnair::manager
