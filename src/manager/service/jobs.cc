#include "manager/service/jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "alnair/core/error.h"
#include "alnair/dataset/dataset.h"
#include "core/log.h"
#include "core/wall_clock.h"
#include "manager/http/message.h"

namespace alnair::manager {
namespace {

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::string dataset_id(const std::string& client, const Datasource& datasource) {
  std::vector<std::string> keys = datasource.keys;
  std::sort(keys.begin(), keys.end());
  std::string name;
  for (const std::string* part : {&client, &datasource.endpoint_url, &datasource.bucket})
    name += fmt::format("{}:{}", part->size(), *part);
  for (const std::string& key : keys) name += fmt::format("{}:{}", key.size(), key);
  return hash_token(name).substr(0, 32);
}

Jobs::Jobs(Records& records, Clients& clients, Listings& listings, JobCache* cache, Options options, Clock clock)
    : records_(records),
      clients_(clients),
      listings_(listings),
      cache_(cache),
      options_(options),
      clock_(std::move(clock)) {}

void Jobs::resume() {
  std::vector<JobRecord> unfinished;
  std::vector<DatasetRecord> wanted, unlisted;
  const std::set<std::string> versions = listings_.versions();
  {
    const std::lock_guard lock(mutex_);
    for (DatasetRecord& record : records_.datasets()) {
      // So that what is pinned stays, and what others have in common with it.
      const bool pinned = record.pinned_until_ms > milliseconds_now() && !record.version.empty() && !versions.contains(record.version);
      if (!record.wanted.work.empty()) wanted.push_back(record);
      else if (pinned) unlisted.push_back(record);
      (record.forgotten ? leaving_ : datasets_).emplace(record.id, std::move(record));
    }
    for (JobRecord& record : records_.jobs()) {
      // The records may be of a manager on another host, whose manifests are there.
      if (record.state == JobState::kReady && !versions.contains(record.version)) record.state = JobState::kListing;
      if (record.state != JobState::kReady && record.state != JobState::kFailed) unfinished.push_back(record);
      tokens_[record.token_hash] = record.id;
      if (cache_ != nullptr) cache_->know(record, clients_.domain_of(record.client));
      const std::string id = record.id;
      jobs_[id] = {std::move(record), clock_(), clock_(), "{}", true};
    }
  }
  {
    const std::lock_guard writing(writing_);
    for (const DatasetRecord& record : wanted) begin_again(record);
    for (const DatasetRecord& record : unlisted) list_first(record);
  }
  for (const JobRecord& record : unfinished) begin_listing(record);
}

RegisteredJob Jobs::register_job(const std::string& client, const JobRequest& request) {
  const std::string token = random_token();
  JobRecord record;
  record.client = client;
  record.name = request.name;
  record.node = request.node;
  record.token_hash = hash_token(token);
  record.resources = request.resources;
  record.dataset = dataset_id(client, request.datasource);
  record.datasource = request.datasource;
  record.qos = request.qos;
  record.single_pass = request.single_pass;
  record.created_ms = milliseconds_now();
  record.token_life_s = static_cast<std::uint64_t>(options_.token_life.count());
  record.chunk_size = CacheOptions().chunk_size;
  clients_.s3_auth(client);  // refuses at once who has no credentials
  RegisteredJob registered{token, "", {}};
  {
    const std::lock_guard writing(writing_);
    std::optional<JobRecord> earlier;
    {
      const std::lock_guard lock(mutex_);
      record.id = id_for(client, request);
      if (const auto known = jobs_.find(record.id); known != jobs_.end()) earlier = known->second.record;
      const auto own = std::count_if(jobs_.begin(), jobs_.end(),
                                     [&](const auto& entry) { return entry.second.record.client == client; });
      if (!earlier && (jobs_.size() >= options_.max_jobs || static_cast<std::size_t>(own) >= options_.max_jobs_per_client))
        throw Problem(
            429, "too-many-jobs",
            fmt::format("there are {} jobs, {} of them of \"{}\": as many as may be", jobs_.size(), own, client), 10);
    }
    if (cache_ != nullptr && request.qos.usecache) {
      const std::string password = random_token();
      registered.redis_url = cache_->redis_url(record.id, clients_.domain_of(client), password);
      if (cache_->makes_users()) record.redis_hash = hash_token(password);
    }
    if (!record.redis_hash.empty() && record.id == request.earlier_id)
      record.earlier_redis_hashes = request.earlier_redis_hashes;
    if (earlier) take_over(*earlier, record);
    records_.put_job(record);
    const std::lock_guard lock(mutex_);
    if (earlier) tokens_.erase(earlier->token_hash);
    tokens_[record.token_hash] = record.id;
    const Job& job = jobs_[record.id] = {record, clock_(), clock_(), "{}"};
    registered.job = view(job);
  }
  registered.job.domain = clients_.domain_of(client);
  begin_listing(record);
  return registered;
}

// With mutex_ held. An id names the job's user in Redis, too: whoever reads by that can go on.
std::string Jobs::id_for(const std::string& client, const JobRequest& request) const {
  if (request.earlier_id.empty()) return random_id();
  const auto found = jobs_.find(request.earlier_id);
  return found == jobs_.end() || found->second.record.client == client ? request.earlier_id : random_id();
}

// What was begun for the job before ends.
void Jobs::take_over(const JobRecord& earlier, JobRecord& record) {
  constexpr std::size_t kMost = 8;
  listings_.forget(earlier.dataset, earlier.id);
  if (cache_ != nullptr) cache_->copies().forget(earlier.dataset, earlier.id);
  if (record.redis_hash.empty()) return;
  auto& hashes = record.earlier_redis_hashes;
  hashes.push_back(earlier.redis_hash);
  hashes.insert(hashes.end(), earlier.earlier_redis_hashes.begin(), earlier.earlier_redis_hashes.end());
  std::set<std::string> seen{""};
  std::erase_if(hashes, [&](const std::string& hash) { return !seen.insert(hash).second; });
  if (hashes.size() > kMost) hashes.resize(kMost);
}

void Jobs::begin_listing(const JobRecord& record) {
  listings_.start(record.dataset, record.id, record.client, record.datasource,
                  [this, id = record.id, token_hash = record.token_hash](const ListingStatus& status) {
                    listed(id, token_hash, status);
                  });
}

std::optional<JobRecord> Jobs::still_registered(const std::string& id, const std::string& token_hash) const {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.record.token_hash != token_hash) return std::nullopt;
  return found->second.record;
}

void Jobs::listed(const std::string& id, const std::string& token_hash, const ListingStatus& status) {
  const auto before = still_registered(id, token_hash);
  if (!before) return;
  JobRecord record = *before;
  const std::string domain = clients_.domain_of(record.client);
  if (cache_ != nullptr && status.failure.empty()) cache_->admit(record, domain);  // waits for Redis
  const bool copies = cache_ != nullptr && cache_->fillable() && record.qos.usecache && !record.qos.lazyloading &&
                      !record.single_pass && status.failure.empty();
  std::unique_lock writing(writing_);
  std::optional<DatasetRecord> dataset;
  const auto now = still_registered(id, token_hash);
  if (!now) {  // deregistered meanwhile, or registered again
    writing.unlock();
    mend_user(id);
    return;
  }
  record = *now;
  if (!status.failure.empty() && list_later(id, status.failure)) return;
  {
    const std::lock_guard lock(mutex_);
    record.state = !status.failure.empty() ? JobState::kFailed : copies ? JobState::kWarming : JobState::kReady;
    record.version = status.version;
    record.failure = status.failure;
    if (status.failure.empty()) {
      const auto known = datasets_.find(record.dataset);
      dataset = known == datasets_.end() ? DatasetRecord{.id = record.dataset, .client = record.client} : known->second;
      dataset->datasource = record.datasource;
      now_is(*dataset, status);
      dataset->last_use_ms = milliseconds_now();
      dataset->durability_minutes = record.qos.durabilityindisk;
    }
  }
  put_dataset_and_job(dataset, record);
  log(status.failure.empty() ? LogLevel::kInfo : LogLevel::kWarning, "job {} of {}: {}", id, record.client,
      status.failure.empty()
          ? fmt::format("{} objects, {} bytes, version {}", status.objects, status.bytes, status.version)
          : status.failure);
  if (copies) {
    cache_->copy(*dataset, domain, id, {.most_bytes = room_for(*dataset)},
                 [this, id, token_hash, dataset = dataset->id](const CopyStatus& copy) {
                   worked(dataset, copy);
                   copied(id, token_hash, copy);
                 });
  } else if (dataset) {
    const std::lock_guard lock(mutex_);
    looks_[dataset->id].wanted = true;
  }
}

// Of a job that ended, or began again, while its user was being made.
void Jobs::mend_user(const std::string& id) {
  if (cache_ == nullptr) return;
  std::optional<JobRecord> present;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = jobs_.find(id); found != jobs_.end()) present = found->second.record;
  }
  if (present)
    cache_->change(*present, clients_.domain_of(present->client));
  else
    cache_->dismiss(id);  // waits for Redis
}

void Jobs::put_dataset_and_job(const std::optional<DatasetRecord>& dataset, const JobRecord& record) {
  try {
    if (dataset) records_.put_dataset(*dataset);
    records_.put_job(record);
  } catch (const CacheError& error) {  // it is listed again after a restart
    log(LogLevel::kError, "job {}: {}", record.id, error.what());
  }
  const std::lock_guard lock(mutex_);
  jobs_[record.id].record = record;
  if (!dataset) return;
  datasets_[dataset->id] = *dataset;
  if (leaving_.erase(dataset->id) == 0) return;
  again_.erase(dataset->id);
  cache_->copies().cancel(dataset->id);  // it is wanted again
}

// Whatever the cache lacks, the job reads from the source.
void Jobs::copied(const std::string& id, const std::string& token_hash, const CopyStatus& status) {
  const std::lock_guard writing(writing_);
  const auto now = still_registered(id, token_hash);
  if (!now) return;  // deregistered meanwhile
  JobRecord record = *now;
  record.state = JobState::kReady;
  log(LogLevel::kInfo, "job {} of {}: {} of {} bytes are in the cache, {} were copied{}{}{}", id, record.client,
      status.cached_bytes(), status.total_bytes, status.copied_bytes, status.full ? "; it is full" : "",
      status.failure.empty() ? "" : "; ", status.failure);
  put_dataset_and_job(std::nullopt, record);
}

Jobs::Job& Jobs::find(const std::string& id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) throw Problem(404, "unknown-job", fmt::format("there is no job \"{}\" (any more)", id));
  return found->second;
}
const Jobs::Job& Jobs::find(const std::string& id) const { return const_cast<Jobs*>(this)->find(id); }

std::optional<std::string> Jobs::job_of(const std::string& token) const {
  const std::string hash = hash_token(token);
  const std::lock_guard lock(mutex_);
  const auto found = tokens_.find(hash);
  if (found == tokens_.end() || view(jobs_.at(found->second)).expired) return std::nullopt;
  return found->second;
}

JobView Jobs::heartbeat(const std::string& id, const std::string& report) {
  const std::lock_guard lock(mutex_);
  Job& job = find(id);
  job.heartbeat = clock_();
  if (!report.empty()) job.report = report;
  if (const auto dataset = datasets_.find(job.record.dataset); dataset != datasets_.end())
    dataset->second.last_use_ms = milliseconds_now();
  return view(job);
}

std::vector<MissAnswer> Jobs::misses(const std::string& id, const std::vector<MissedChunk>& chunks,
                                     std::chrono::milliseconds patience) const {
  const DatasetRecord dataset = dataset_of(id);
  return cache_->misses().answer(dataset, clients_.domain_of(dataset.client), chunks, patience);
}

std::string Jobs::hashes(const std::string& id, std::uint64_t first, std::uint64_t most) const {
  const DatasetRecord dataset = dataset_of(id);
  return cache_->misses().known_hashes(dataset, clients_.domain_of(dataset.client), first, most);
}

// The version of it that the job reads.
DatasetRecord Jobs::dataset_of(const std::string& job) const {
  if (cache_ == nullptr || !cache_->fillable()) throw Problem(409, "no-cache", "the manager has no cache");
  const std::lock_guard lock(mutex_);
  const JobRecord& record = find(job).record;
  if (record.version.empty()) throw Problem(409, "not-ready", "the job's dataset has not been listed yet", 1);
  return {.id = record.dataset, .client = record.client, .datasource = record.datasource, .version = record.version};
}

void Jobs::used(const std::string& id, const ChunkUse& more) {
  const std::lock_guard lock(mutex_);
  const auto job = jobs_.find(id);
  if (job == jobs_.end() || more == ChunkUse()) return;
  if (std::exchange(job->second.resumed, false)) return;
  const auto dataset = datasets_.find(job->second.record.dataset);
  if (dataset == datasets_.end()) return;
  dataset->second.use += more;
  unkept_.insert(dataset->first);
  looks_[dataset->first].wanted = true;
}

void Jobs::keep_uses(std::size_t most) {
  const std::lock_guard writing(writing_);
  std::vector<DatasetRecord> kept;
  {
    const std::lock_guard lock(mutex_);
    for (; !unkept_.empty() && kept.size() < most; unkept_.erase(unkept_.begin()))
      if (const auto found = datasets_.find(*unkept_.begin()); found != datasets_.end()) kept.push_back(found->second);
  }
  for (const DatasetRecord& record : kept) records_.put_dataset(record);
}

void Jobs::deregister(const std::string& id, bool delete_dataset) {
  std::unique_lock writing(writing_);
  std::string dataset;
  {
    const std::lock_guard lock(mutex_);
    dataset = find(id).record.dataset;
  }
  records_.erase_job(id);
  listings_.forget(dataset, id);
  if (cache_ != nullptr) cache_->copies().forget(dataset, id);
  bool unused = false;
  std::optional<DatasetRecord> last_use;
  {
    const std::lock_guard lock(mutex_);
    const auto found = jobs_.find(id);
    tokens_.erase(found->second.record.token_hash);
    jobs_.erase(found);
    if (const auto known = datasets_.find(dataset); known != datasets_.end()) {
      unused = dataset_view(known->second).jobs.empty() && known->second.pinned_until_ms <= milliseconds_now();
      last_use = known->second;
      looks_[dataset].wanted = true;
    }
  }
  if (last_use && delete_dataset && unused) {
    leave(*last_use);
  } else if (last_use) {
    records_.put_dataset(*last_use);
  }
  writing.unlock();
  if (cache_ != nullptr) cache_->dismiss(id);  // waits for Redis
}

void Jobs::forget_client(const std::string& client) {
  std::unique_lock writing(writing_);
  std::vector<JobRecord> ended;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, job] : jobs_)
      if (job.record.client == client) ended.push_back(job.record);
    for (const JobRecord& record : ended) {
      tokens_.erase(record.token_hash);
      jobs_.erase(record.id);
    }
    for (auto* datasets : {&datasets_, &leaving_})
      std::erase_if(*datasets, [&](const auto& entry) { return entry.second.client == client; });
  }
  writing.unlock();
  for (const JobRecord& record : ended) {
    listings_.forget(record.dataset, record.id);
    if (cache_ == nullptr) continue;
    cache_->copies().forget(record.dataset, record.id);
    cache_->dismiss(record.id);  // waits for Redis
  }
}

JobView Jobs::view(const Job& job) const {
  JobView view{.record = job.record, .domain = {}, .report = job.report};
  const auto now = clock_();
  view.elapsed_s = seconds(now - job.registered);
  view.heartbeat_age_s = seconds(now - job.heartbeat);
  view.expired = now - job.heartbeat >= options_.token_life;
  const auto dataset = datasets_.find(job.record.dataset);
  if (dataset != datasets_.end()) view.expected_objects = dataset->second.objects;
  if (job.record.state == JobState::kListing) {
    const ListingStatus status = listings_.status(job.record.dataset);
    view.objects = status.objects;
    view.bytes = status.bytes;
  } else if (dataset != datasets_.end() && dataset->second.version == job.record.version) {
    view.objects = dataset->second.objects;
    view.bytes = dataset->second.bytes;
  }
  if (cache_ != nullptr) view.copy = cache_->copies().status(job.record.dataset);
  return view;
}

JobView Jobs::get(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  JobView result = view(find(id));
  result.domain = clients_.domain_of(result.record.client);
  return result;
}

std::vector<JobView> Jobs::list(const std::string& client) const {
  const std::lock_guard lock(mutex_);
  std::vector<JobView> views;
  for (const auto& [id, job] : jobs_)
    if (client.empty() || job.record.client == client) views.push_back(view(job));
  for (JobView& each : views) each.domain = clients_.domain_of(each.record.client);
  return views;
}

std::vector<JobBrief> Jobs::briefs(const std::string& client) const {
  const std::lock_guard lock(mutex_);
  const auto now = clock_();
  std::vector<JobBrief> briefs;
  briefs.reserve(jobs_.size());
  for (const auto& [id, job] : jobs_)
    if (client.empty() || job.record.client == client)
      briefs.push_back({id, job.record.node, job.record.state, job.record.created_ms, seconds(now - job.heartbeat),
                        now - job.heartbeat >= options_.token_life});
  return briefs;
}

std::map<JobState, std::uint64_t> Jobs::states() const {
  std::map<JobState, std::uint64_t> counts;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, job] : jobs_) ++counts[job.record.state];
  return counts;
}

void Jobs::end_earlier_passwords(const std::string& id) {
  const std::lock_guard writing(writing_);
  JobRecord record;
  {
    const std::lock_guard lock(mutex_);
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) return;  // deregistered meanwhile
    record = found->second.record;
  }
  record.earlier_redis_hashes.clear();
  records_.put_job(record);
  if (cache_ != nullptr) cache_->change(record, clients_.domain_of(record.client));
  const std::lock_guard lock(mutex_);
  jobs_[id].record = record;
}

void Jobs::sweep() {
  std::vector<std::string> ended, outdated;
  {
    const std::lock_guard lock(mutex_);
    const auto now = clock_();
    for (const auto& [id, job] : jobs_) {
      if (now - job.heartbeat >= options_.token_life + options_.grace) ended.push_back(id);
      if (now - job.registered >= options_.token_life && !job.record.earlier_redis_hashes.empty())
        outdated.push_back(id);
    }
  }
  begin_what_is_due();
  for (const std::string& id : outdated) end_earlier_passwords(id);
  for (const std::string& id : ended) {
    log(LogLevel::kInfo, "job {} sends no heartbeats any more: deregistered", id);
    try {
      deregister(id, false);
    } catch (const Problem&) {  // its client was quicker
    }
  }
}

}  // namespace alnair::manager
