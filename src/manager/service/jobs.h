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
#include <set>
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
  // Of a registration that the client has lost, or that the manager has: the same id is given, unless somebody else has
  // it now, and the passwords of the job's user in Redis go on being good for a token's life, in which its processes
  // learn the new one.
  std::string earlier_id;
  std::vector<std::string> earlier_redis_hashes;
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

// What is to be had of thousands of jobs without delaying their heartbeats.
struct JobBrief {
  std::string id;
  std::string node;
  JobState state = JobState::kListing;
  std::int64_t created_ms = 0;
  double heartbeat_age_s = 0;
  bool expired = false;
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

  // What its last heartbeat has told more than the one before.
  void used(const std::string& id, const ChunkUse& more);

  // Content hashes of the job's dataset (Misses::known_hashes). Problem: 404; 409: there is no manifest yet, or no cache.
  std::string hashes(const std::string& id, std::uint64_t first, std::uint64_t most) const;

  // Brings chunks of the job's dataset into the cache (Misses::answer). Problem: 404; 409: there is no manifest yet, or no cache.
  std::vector<MissAnswer> misses(const std::string& id, const std::vector<MissedChunk>& chunks,
                                 std::chrono::milliseconds patience) const;

  // Ends a job; one that does not exist is a Problem 404. With `delete_dataset`, its dataset's record too if no other
  // job of the client uses it.
  void deregister(const std::string& id, bool delete_dataset);
  void forget_client(const std::string& client);  // its jobs and datasets, when the client is removed

  JobView get(const std::string& id) const;                    // Problem: 404
  std::vector<JobView> list(const std::string& client) const;  // "": of all clients
  std::vector<JobBrief> briefs(const std::string& client) const;  // likewise
  std::map<JobState, std::uint64_t> states() const;            // how many are in each, of all clients

  struct DatasetView {
    DatasetRecord record;
    std::vector<std::string> jobs;  // ids of live ones
    std::optional<CopyStatus> copy;  // of the work on its chunks that goes on, else of the last
    std::uint64_t redis_bytes = 0, directory_bytes = 0;  // of it that are cached, as far as is known
    std::optional<std::uint64_t> capacity_bytes;         // that the tiers and its client's quota have for it at most; none: unknown

    std::optional<std::uint64_t> cached_bytes() const {  // none: nobody has looked
      const std::uint64_t bytes = redis_bytes + directory_bytes;
      return bytes == 0 && record.looked_ms == 0 ? std::nullopt : std::optional(bytes);
    }
  };
  std::vector<DatasetView> datasets(const std::string& client) const;
  DatasetView dataset(const std::string& id) const;        // Problem: 404
  void pin(const std::string& id, std::int64_t until_ms);  // 0: no longer. Problem: 404
  void erase_dataset(const std::string& id);               // and evicts it. Problem: 404; 409 while a job uses it
  // Begins work on the dataset's chunks, in the background; goes on with it after a restart, here or on another host, and tries
  // again what cannot begin. Problem: 404; 409: no cache, other work goes on; of an eviction, also: a job uses it, it is pinned.
  void work(const std::string& id, CopyPlan plan);
  void cancel_work(const std::string& id);  // Problem: 404
  // Evicts datasets that no job has used for durabilityindisk minutes and that are not pinned. Returns their ids.
  std::vector<std::string> collect();
  // Says in the directory that the chunks of datasets that live jobs use or have used lately, or that are pinned, are to stay. Waits.
  // Throws only what `interrupt` throws.
  void name_chunks(const Interrupt& interrupt);

  // Deregisters jobs whose grace has ended, ends passwords of earlier registrations after a token's life, and tries work again
  // that could not begin.
  void sweep();
  // Looks how much is cached of the dataset whose turn it is, if there is one: its jobs have read since the last look. Waits. Throws
  // only what `interrupt` throws.
  void look(const Interrupt& interrupt);
  // Writes to the records what heartbeats have told of some datasets. To be called every second.
  void keep_uses(std::size_t most);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Job {
    JobRecord record;
    Time registered;
    Time heartbeat;
    std::string report;
    bool resumed = false;  // and has told nothing since: its first counters are of before
    unsigned tries = 0;    // to list it again that have failed
    Time next_listing = Time::max();
  };
  // Of a dataset, in this manager's life.
  struct Looks {
    bool wanted = false;  // something changed since the last one
    Time last{};
  };
  // Of work that could not begin, or waits for a listing.
  struct Again {
    CopyStatus status;         // as users see it
    unsigned tries = 0;        // that have failed
    Time next = Time::max();   // not before something ends
  };
  void begin_listing(const JobRecord& record);
  void end_earlier_passwords(const std::string& id);
  // `token_hash` tells this registration from a later one of the same id.
  void listed(const std::string& id, const std::string& token_hash, const ListingStatus& status);
  void copied(const std::string& id, const std::string& token_hash, const CopyStatus& status);
  void mend_user(const std::string& id);
  std::optional<JobRecord> still_registered(const std::string& id, const std::string& token_hash) const;
  void put_dataset_and_job(const std::optional<DatasetRecord>& dataset, const JobRecord& record);
  JobView view(const Job& job) const;
  std::uint64_t room_for(const DatasetRecord& record) const;  // in its client's quota of cached bytes
  std::string id_for(const std::string& client, const JobRequest& request) const;
  void take_over(const JobRecord& earlier, JobRecord& record);
  DatasetRecord dataset_of(const std::string& job) const;
  void worked(const std::string& dataset, const CopyStatus& status);
  void begin_work(const DatasetRecord& record, const CopyPlan& plan);
  void begin_again(const DatasetRecord& record);
  void begin_what_is_due();
  void list_first(const DatasetRecord& record);
  void listed_first(const std::string& dataset, const ListingStatus& status);
  void try_later(const DatasetRecord& record, const std::string& failure);
  void end_tries(const std::string& dataset);
  bool list_later(const std::string& job, const std::string& failure);
  static void now_is(DatasetRecord& record, const ListingStatus& status);
  DatasetRecord* known(const std::string& dataset);
  void keep_wanted(const std::string& dataset, const WantedWork& wanted);
  void settle(const std::string& dataset, const CopyStatus& status);
  void leave(DatasetRecord record);
  void looked(const std::string& dataset, const CopyStatus& status);
  Job& find(const std::string& id);
  const Job& find(const std::string& id) const;
  DatasetView dataset_view(const DatasetRecord& record) const;
  DatasetView dataset_view(const DatasetRecord& record, std::vector<std::string> users) const;
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
  std::map<std::string, DatasetRecord> leaving_;  // those that are forgotten, while they are evicted
  std::map<std::string, Again> again_;             // by dataset
  std::map<std::string, Looks> looks_;             // by dataset
  std::set<std::string> unkept_;                  // datasets whose use is not in the records yet
  std::map<std::string, std::int64_t> collected_;  // by dataset: its last use, when it was evicted for not being used
};

// Equal for equal datasources of one client, whatever the order of their keys. Pure.
std::string dataset_id(const std::string& client, const Datasource& datasource);

}  // namespace alnair::manager
