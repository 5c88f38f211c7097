// Work on the chunks of datasets: what somebody has asked for goes on after a restart, here or on another host, until it has
// ended.
//
// 1. It is in the records before it is acknowledged, and leaves them when it has ended.
// 2. Whoever takes the records over begins it again. A manifest that is on another host only is listed first; where the bucket has
//    changed meanwhile, the work is on what is there now.
// 3. What cannot begin (S3 refuses, credentials do not open, Redis or the catalog fails) is tried again, later each time, and
//    says why until it goes on, is cancelled, or is given up.
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

// Tries of work that cannot begin: for an hour and a half.
constexpr unsigned kMostTries = 24;
constexpr std::chrono::seconds kFirstPause{1}, kLongestPause{300};

std::chrono::seconds pause_after(unsigned tries) {
  return tries > 8 ? kLongestPause : std::min(kFirstPause * (1 << (tries - 1)), kLongestPause);
}

}  // namespace

void Jobs::evict_for_good(const DatasetRecord& record) {
  if (cache_ == nullptr || !cache_->fillable() || record.version.empty()) return;
  cache_->copies().cancel(record.id);
  begin_work(record, eviction_of(record));
}

void Jobs::begin_work(const DatasetRecord& record, const CopyPlan& plan) {
  if (!record.version.empty() && !cache_->knows(record.version)) return list_first(record);
  cache_->work(record, clients_.domain_of(record.client), plan,
               [this, id = record.id](const CopyStatus& status) { worked(id, status); });
}

// What was asked for, of this manager or of one before it. Where it is not possible any more, it is not wanted any more. With
// writing_ held.
void Jobs::begin_again(const DatasetRecord& record) {
  const auto work = work_named(record.wanted.work);
  const CopyStatus none{.work = work.value_or(Work::kLook)};
  try {
    if (cache_ == nullptr || !cache_->fillable() || !work) return settle(record.id, none);
    CopyPlan plan{.work = *work,
                  .prefix = record.wanted.prefix,
                  .keys = record.wanted.keys,
                  .bytes_per_s = record.wanted.bytes_per_s};
    if (plan.work == Work::kEvict) {
      const bool used =
          !record.forgotten && (!dataset(record.id).jobs.empty() || record.pinned_until_ms > milliseconds_now());
      if (used) return settle(record.id, none);
      plan = eviction_of(record);
    }
    if (plan.work == Work::kCopy) plan.most_bytes = room_for(record);
    begin_work(record, plan);
  } catch (const Problem& problem) {
    if (problem.type() == dataset_busy().type()) return try_later(record, problem.what());
    log(LogLevel::kWarning, "dataset {} of {}: {}", record.id, record.client, problem.what());
    settle(record.id, none);
  } catch (const CacheError& error) {
    try_later(record, error.what());
  }
}

void Jobs::begin_what_is_due() {
  const std::lock_guard writing(writing_);
  std::vector<DatasetRecord> due;
  std::vector<JobRecord> unlisted;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, job] : jobs_) {
      if (job.next_listing > clock_()) continue;
      job.next_listing = Time::max();
      unlisted.push_back(job.record);
    }
    std::erase_if(again_, [&](const auto& entry) { return !datasets_.contains(entry.first) && !leaving_.contains(entry.first); });
    for (auto& [id, again] : again_) {
      if (again.next > clock_()) continue;
      again.next = Time::max();
      due.push_back(*known(id));
    }
  }
  for (const JobRecord& record : unlisted) begin_listing(record);
  for (const DatasetRecord& record : due)
    if (record.wanted.work.empty())
      list_first(record);
    else
      begin_again(record);
}

// With mutex_ held.
DatasetRecord* Jobs::known(const std::string& id) {
  for (auto* datasets : {&datasets_, &leaving_})
    if (const auto found = datasets->find(id); found != datasets->end()) return &found->second;
  return nullptr;
}

// Its manifest is on another host, or was given up. With writing_ held.
void Jobs::list_first(const DatasetRecord& record) {
  {
    const std::lock_guard lock(mutex_);
    Again& again = again_[record.id];
    again.status.work = work_named(record.wanted.work).value_or(Work::kLook);
    again.status.running = true;
    again.next = Time::max();
  }
  listings_.start(record.id, "", record.client, record.datasource,
                  [this, id = record.id](const ListingStatus& status) { listed_first(id, status); });
}

void Jobs::listed_first(const std::string& id, const ListingStatus& status) {
  const std::lock_guard writing(writing_);
  DatasetRecord record;
  {
    const std::lock_guard lock(mutex_);
    const DatasetRecord* const present = known(id);
    if (present == nullptr) return;
    record = *present;
  }
  if (!status.failure.empty()) return try_later(record, status.failure);
  if (record.version != status.version)
    log(LogLevel::kWarning, "dataset {} of {} has changed: it was version {} and is {}; work on it goes on with what is there now",
        id, record.client, record.version, status.version);
  now_is(record, status);
  try {
    records_.put_dataset(record);
  } catch (const CacheError& error) {
    return try_later(record, error.what());
  }
  {
    const std::lock_guard lock(mutex_);
    *known(id) = record;
  }
  if (!record.wanted.work.empty()) return begin_again(record);
  end_tries(id);
}

void Jobs::now_is(DatasetRecord& record, const ListingStatus& status) {
  if (record.version != status.version) record.redis_bytes = record.directory_bytes = record.looked_ms = 0;
  record.version = status.version;
  record.objects = status.objects;
  record.bytes = status.bytes;
}

// With writing_ held.
void Jobs::try_later(const DatasetRecord& record, const std::string& failure) {
  const Work work = work_named(record.wanted.work).value_or(Work::kLook);
  bool given_up = false;
  {
    const std::lock_guard lock(mutex_);
    Again& again = again_[record.id];
    given_up = ++again.tries >= kMostTries;
    const auto pause = pause_after(again.tries);
    again.next = given_up ? Time::max() : clock_() + pause;
    again.status = {.work = work, .running = !given_up};
    again.status.failure = given_up ? fmt::format("{} (given up after {} tries)", failure, again.tries)
                                    : fmt::format("{} (tried again in {} s)", failure, pause.count());
    log(given_up ? LogLevel::kError : LogLevel::kWarning, "dataset {} of {}, {}: {}", record.id, record.client,
        to_string(work), again.status.failure);
  }
  if (given_up) settle(record.id, {.work = work});
}

// With writing_ held, or before there is anybody else.
void Jobs::keep_wanted(const std::string& id, const WantedWork& wanted) {
  DatasetRecord record = dataset(id).record;
  if (record.wanted == wanted) return;
  record.wanted = wanted;
  records_.put_dataset(record);
  const std::lock_guard lock(mutex_);
  datasets_[id] = record;
}

// What has ended is wanted no more; and a dataset that was kept for its eviction only is no more, either. As
// keep_wanted().
void Jobs::settle(const std::string& id, const CopyStatus& status) {
  try {
    WantedWork wanted;
    bool left = false;
    {
      const std::lock_guard lock(mutex_);
      left = leaving_.contains(id);
      if (const auto found = datasets_.find(id); found != datasets_.end()) wanted = found->second.wanted;
    }
    if (left && status.work == Work::kEvict) {
      records_.erase_dataset(id);
      const std::lock_guard lock(mutex_);
      leaving_.erase(id);
    } else if (wanted.work == to_string(status.work)) {
      keep_wanted(id, {});
    }
  } catch (const CacheError& error) {  // it is done once more after a restart
    log(LogLevel::kError, "dataset {}: {}", id, error.what());
  }
}

// What a piece of work has seen counts as a look, if it saw all and left it there. Else there is at least what a copy has seen.
void Jobs::worked(const std::string& dataset, const CopyStatus& status) {
  {
    const std::lock_guard writing(writing_);
    std::optional<DatasetRecord> again;
    {
      const std::lock_guard lock(mutex_);
      const DatasetRecord* const record = known(dataset);
      if (record != nullptr && status.broke_off && record->wanted.work == to_string(status.work)) again = *record;
    }
    if (again) {
      try_later(*again, status.failure);
    } else {
      end_tries(dataset);
      settle(dataset, status);
    }
  }
  if (status.whole && status.work != Work::kEvict) return looked(dataset, status);
  const std::lock_guard lock(mutex_);
  looks_[dataset] = {.wanted = true};  // at once
  const auto found = datasets_.find(dataset);
  if (found == datasets_.end()) return;
  DatasetRecord& record = found->second;
  if (status.work == Work::kCopy) {
    record.redis_bytes = std::max(record.redis_bytes, status.redis_bytes);
    record.directory_bytes = std::max(record.directory_bytes, status.directory_bytes);
  } else if (status.work == Work::kEvict && status.whole) {  // but for what it has in common with others
    record.redis_bytes = record.directory_bytes = 0;
  }
}

void Jobs::work(const std::string& id, CopyPlan plan) {
  if (plan.work == Work::kEvict) {
    const DatasetRecord record = unused(id).record;
    if (record.pinned_until_ms > milliseconds_now())
      throw Problem(409, "dataset-pinned", "the dataset is pinned; pin it for 0 minutes first");
    plan = eviction_of(record);
  }
  const std::lock_guard writing(writing_);
  const DatasetRecord record = dataset(id).record;
  if (cache_ == nullptr) throw Problem(409, "no-cache", "the manager has no cache");
  if (plan.work == Work::kCopy) {
    plan.most_bytes = room_for(record);
    if (plan.most_bytes == 0)
      throw Problem(429, "quota-exceeded",
                    fmt::format("the datasets of \"{}\" have as many bytes in the cache as they may; evict one",
                                record.client));
  }
  {
    const std::lock_guard lock(mutex_);
    const auto again = again_.find(id);
    if (again != again_.end() && again->second.status.running && again->second.status.work != plan.work &&
        again->second.status.work != Work::kLook)
      throw dataset_busy();
  }
  if (plan.work == Work::kCopy) {  // it is for a job to come: what has just been copied is not collected
    const std::lock_guard lock(mutex_);
    datasets_[id].last_use_ms = milliseconds_now();
    unkept_.insert(id);
  }
  keep_wanted(id, {to_string(plan.work), plan.prefix, plan.keys, plan.bytes_per_s});  // before it is acknowledged
  try {
    end_tries(id);
    begin_work(dataset(id).record, plan);
  } catch (const Problem&) {
    keep_wanted(id, record.wanted);
    throw;
  }
}

void Jobs::cancel_work(const std::string& id) {
  const std::lock_guard writing(writing_);
  keep_wanted(id, {});
  end_tries(id);
  listings_.forget(id, "");
  if (cache_ != nullptr) cache_->copies().cancel(id);
}

// Of one that has been ready: it may be at work, with what it was told then. False: it is tried no more. With writing_ held.
bool Jobs::list_later(const std::string& id, const std::string& failure) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.at(id);
  if (job.record.version.empty() || ++job.tries >= kMostTries) return false;
  const auto pause = pause_after(job.tries);
  job.next_listing = clock_() + pause;
  job.record.failure = fmt::format("{} (tried again in {} s)", failure, pause.count());
  log(LogLevel::kWarning, "job {} of {}: {}", id, job.record.client, job.record.failure);
  return true;
}

void Jobs::end_tries(const std::string& id) {
  const std::lock_guard lock(mutex_);
  again_.erase(id);
}

}  // namespace alnair::manager

