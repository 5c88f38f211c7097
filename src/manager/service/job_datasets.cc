// The datasets of jobs: what is known of them, pins, work on their chunks.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "alnair/core/error.h"
#include "core/log.h"
#include "core/wall_clock.h"
#include "manager/http/message.h"
#include "manager/service/jobs.h"

namespace alnair::manager {
namespace {

Problem unknown_dataset(const std::string& id) {
  return {404, "unknown-dataset", fmt::format("there is no dataset \"{}\"", id)};
}

// Whether it has not been used for as long as its last job asked.
bool has_lapsed(const DatasetRecord& record) {
  return record.last_use_ms + static_cast<std::int64_t>(record.durability_minutes) * 60'000 <= milliseconds_now();
}

}  // namespace

Jobs::DatasetView Jobs::dataset_view(const DatasetRecord& record) const {
  std::vector<std::string> users;
  for (const auto& [id, job] : jobs_)
    if (job.record.dataset == record.id) users.push_back(id);
  return dataset_view(record, std::move(users));
}

Jobs::DatasetView Jobs::dataset_view(const DatasetRecord& record, std::vector<std::string> users) const {
  DatasetView result{record, std::move(users), {}, record.redis_bytes, record.directory_bytes, {}};
  if (cache_ == nullptr) return result;
  result.copy = cache_->copies().status(record.id);
  if (const auto again = again_.find(record.id); again != again_.end() && !(result.copy && result.copy->running))
    result.copy = again->second.status;
  if (result.copy && result.copy->running && result.copy->work == Work::kCopy) {  // it grows while one looks
    result.redis_bytes = std::max(result.redis_bytes, result.copy->redis_bytes);
    result.directory_bytes = std::max(result.directory_bytes, result.copy->directory_bytes);
  }
  result.capacity_bytes = cache_->capacity();
  if (const std::uint64_t quota = clients_.quota_of(record.client).cached_bytes; quota > 0)
    result.capacity_bytes = std::min(result.capacity_bytes.value_or(quota), quota);
  return result;
}

std::vector<Jobs::DatasetView> Jobs::datasets(const std::string& client) const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::vector<std::string>> users;  // one walk over the jobs, not one a dataset
  for (const auto& [id, job] : jobs_) users[job.record.dataset].push_back(id);
  std::vector<DatasetView> views;
  for (const auto& [id, record] : datasets_)
    if (client.empty() || record.client == client) views.push_back(dataset_view(record, std::move(users[id])));
  return views;
}

Jobs::DatasetView Jobs::dataset(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = datasets_.find(id);
  if (found == datasets_.end()) throw unknown_dataset(id);
  return dataset_view(found->second);
}

void Jobs::pin(const std::string& id, std::int64_t until_ms) {
  const std::lock_guard writing(writing_);
  DatasetRecord record = dataset(id).record;
  record.pinned_until_ms = until_ms;
  records_.put_dataset(record);
  const std::lock_guard lock(mutex_);
  datasets_[id] = record;
}

void Jobs::erase_dataset(const std::string& id) {
  const std::lock_guard writing(writing_);
  leave(unused(id).record);
}

// With writing_ held. Its record stays until its chunks are evicted.
void Jobs::leave(DatasetRecord record) {
  const bool cached = cache_ != nullptr && cache_->fillable() && !record.version.empty();
  record.forgotten = true;
  record.wanted = {.work = to_string(Work::kEvict)};
  if (cached)
    records_.put_dataset(record);
  else
    records_.erase_dataset(record.id);
  {
    const std::lock_guard lock(mutex_);
    datasets_.erase(record.id);
    again_.erase(record.id);
    if (cached) leaving_[record.id] = record;
  }
  if (cached) evict_for_good(record);
}

Jobs::DatasetView Jobs::unused(const std::string& id) const {
  DatasetView found = dataset(id);
  if (!found.jobs.empty())
    throw Problem(409, "dataset-in-use",
                  fmt::format("{} live jobs use the dataset, {} among them", found.jobs.size(), found.jobs.front()));
  return found;
}

// What other datasets of the domain have in common with it stays, if they are in use.
CopyPlan Jobs::eviction_of(const DatasetRecord& record) const {
  CopyPlan plan{.work = Work::kEvict};
  const std::string domain = clients_.domain_of(record.client);
  for (const DatasetView& other : datasets("")) {
    const bool used = !other.jobs.empty() || other.record.pinned_until_ms > milliseconds_now();
    if (used && other.record.id != record.id && !other.record.version.empty() &&
        clients_.domain_of(other.record.client) == domain)
      plan.kept.push_back(cache_->opener(other.record, domain));
  }
  return plan;
}

void Jobs::looked(const std::string& dataset, const CopyStatus& status) {
  const std::lock_guard lock(mutex_);
  looks_[dataset] = {false, clock_()};
  const auto found = datasets_.find(dataset);
  if (found == datasets_.end()) return;
  found->second.redis_bytes = status.redis_bytes;
  found->second.directory_bytes = status.directory_bytes;
  found->second.looked_ms = milliseconds_now();
  unkept_.insert(dataset);
}

void Jobs::look(const Interrupt& interrupt) {
  constexpr std::chrono::seconds kBetweenLooks{60};
  if (cache_ == nullptr || !cache_->fillable()) return;
  std::optional<DatasetRecord> next;
  {
    const std::lock_guard lock(mutex_);
    Time oldest = Time::max();
    std::erase_if(looks_, [&](const auto& entry) { return !datasets_.contains(entry.first); });
    for (const auto& [id, looks] : looks_) {
      const DatasetRecord& record = datasets_.at(id);
      const bool due = looks.last == Time() || clock_() - looks.last >= kBetweenLooks;
      if (!looks.wanted || !due || record.version.empty() || looks.last >= oldest) continue;
      if (const auto work = cache_->copies().status(id); work && work->running) continue;
      oldest = looks.last;
      next = record;
    }
    if (!next) return;
    looks_[next->id] = {false, clock_()};
  }
  try {
    looked(next->id, cache_->look(*next, clients_.domain_of(next->client), interrupt));
  } catch (const CancelledError&) {
    throw;
  } catch (const std::exception& error) {
    log(LogLevel::kDebug, "dataset {} cannot be looked at now: {}", next->id, error.what());
  }
}

std::uint64_t Jobs::room_for(const DatasetRecord& record) const {
  const std::uint64_t quota = clients_.quota_of(record.client).cached_bytes;
  if (quota == 0) return UINT64_MAX;
  std::uint64_t others = 0;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, dataset] : datasets_)
    if (dataset.client == record.client && id != record.id) {
      const DatasetView other = dataset_view(dataset, {});
      others += other.redis_bytes + other.directory_bytes;
    }
  return quota > others ? quota - others : 0;
}

// What nobody has used for as long as its jobs asked for. Evicted once: it is known as long as it is not forgotten.
std::vector<std::string> Jobs::collect() {
  if (cache_ == nullptr || !cache_->fillable()) return {};
  const std::int64_t now = milliseconds_now();
  std::vector<DatasetRecord> unused;
  for (const DatasetView& dataset : datasets("")) {
    const DatasetRecord& record = dataset.record;
    if (!dataset.jobs.empty() || record.version.empty() || record.pinned_until_ms > now || !has_lapsed(record)) continue;
    const std::lock_guard lock(mutex_);
    auto& collected = collected_[record.id];
    if (std::exchange(collected, record.last_use_ms) != record.last_use_ms) unused.push_back(record);
  }
  std::vector<std::string> ids;
  for (const DatasetRecord& record : unused) {
    // Of what another host has listed nothing may be left, and then a listing is not worth it.
    const bool nothing = record.looked_ms != 0 && record.redis_bytes + record.directory_bytes == 0;
    if (nothing && !cache_->knows(record.version)) continue;
    log(LogLevel::kInfo, "dataset {} of {} has not been used for {} minutes: evicted", record.id, record.client,
        record.durability_minutes);
    const std::lock_guard writing(writing_);
    try {
      keep_wanted(record.id, {.work = to_string(Work::kEvict)});
      evict_for_good(dataset(record.id).record);
      ids.push_back(record.id);
    } catch (const Problem&) {  // somebody has been quicker
    }
  }
  return ids;
}

void Jobs::name_chunks(const Interrupt& interrupt) {
  if (cache_ == nullptr) return;
  for (const DatasetView& dataset : datasets("")) {
    const DatasetRecord& record = dataset.record;
    const bool kept = !dataset.jobs.empty() || record.pinned_until_ms > milliseconds_now() || !has_lapsed(record);
    if (record.version.empty() || !kept) continue;
    interrupt();
    try {
      cache_->name_chunks(record, clients_.domain_of(record.client), interrupt);
    } catch (const CancelledError&) {
      throw;
    } catch (const std::exception& error) {
      log(LogLevel::kWarning, "dataset {} of {} is not named in the directory now: {}", record.id, record.client,
          error.what());
    }
  }
  cache_->tend();
}

}  // namespace alnair::manager
