#include "manager/cache/job_cache.h"

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "alnair/dataset/dataset.h"
#include "core/log.h"
#include "dataset/registration.h"
#include "manager/cache/walk.h"
#include "manager/http/message.h"

namespace alnair::manager {

namespace {

RedisUsers::User user_of(const JobRecord& job, const std::string& domain) {
  RedisUsers::User user{{job.redis_hash}, name_in_tiers(domain), job.single_pass};
  user.password_hashes.insert(user.password_hashes.end(), job.earlier_redis_hashes.begin(), job.earlier_redis_hashes.end());
  return user;
}

}  // namespace

JobCache::JobCache(Options options, std::shared_ptr<Catalog> catalog, OpenSource open_source, Presign presign)
    : options_(std::move(options)),
      catalog_(std::move(catalog)),
      open_source_(std::move(open_source)),
      domains_(options_.tiers, catalog_),
      copies_(options_.copies),
      misses_([this](const DatasetRecord& dataset, const std::string& domain) { return open(dataset, domain); },
              std::move(presign)) {
  if (domains_.redis() == nullptr || !options_.shared_url.empty()) return;
  users_.emplace(domains_.redis());
  users_->check();
}

std::string JobCache::redis_url(const std::string& job, const std::string& domain, const std::string& password) const {
  if (domains_.redis() == nullptr) return "";
  redis::Options options =
      options_.shared_url.empty() ? domains_.redis()->options() : redis::parse_url(options_.shared_url);
  if (users_) {
    options.user = users_->name_of(job);
    options.password = password;
    options.password_file.clear();
  }
  if (!options_.proxy_host.empty()) {
    options.seeds = {{.host = options_.proxy_host, .port = options_.proxy_port}};
    options.mode = redis::Mode::kProxy;
  }
  options.key_namespace = domains_.redis()->options().key_namespace;
  options.domain = name_in_tiers(domain);
  options.flusher = false;  // it runs here
  return redis::to_url(options);
}

void JobCache::admit(const JobRecord& job, const std::string& domain) {
  if (!users_ || job.redis_hash.empty()) return;
  try {
    users_->add(job.id, user_of(job, domain));
  } catch (const AccessError& error) {
    log(LogLevel::kError, "job {} has no user in Redis: {}", job.id, error.what());
  }
}

void JobCache::know(const JobRecord& job, const std::string& domain) {
  if (users_ && !job.redis_hash.empty()) users_->know(job.id, user_of(job, domain));
}

void JobCache::change(const JobRecord& job, const std::string& domain) {
  if (users_ && !job.redis_hash.empty()) users_->change(job.id, user_of(job, domain));
}

void JobCache::dismiss(const std::string& job) {
  if (users_) users_->remove(job);
}

void JobCache::reconcile() {
  Domains::Usage usage = domains_.usage();
  {
    const std::lock_guard lock(mutex_);
    last_usage_ = std::move(usage);
  }
  if (users_) users_->reconcile();
}

Domains::Usage JobCache::last_usage() const {
  const std::lock_guard lock(mutex_);
  return last_usage_;
}

std::optional<std::uint64_t> JobCache::capacity() const {
  const std::lock_guard lock(mutex_);
  const Domains::Usage& usage = last_usage_;
  std::uint64_t sum = 0;
  for (const auto& tier : {usage.redis, usage.directory}) sum += tier ? tier->limit_bytes : 0;
  const bool unlimited = usage.redis && usage.redis->limit_bytes == 0;
  return sum == 0 || unlimited ? std::nullopt : std::optional(sum);
}

void JobCache::copy(const DatasetRecord& dataset, const std::string& domain, const std::string& job,
                    const CopyPlan& plan, Copies::Done done) {
  if (copies_.start(dataset.id, job, plan, opener(dataset, domain), done)) return;
  copies_.cancel(dataset.id);
  copies_.start(dataset.id, job, plan, opener(dataset, domain), std::move(done));
}

void JobCache::work(const DatasetRecord& dataset, const std::string& domain, const CopyPlan& plan, Copies::Done done) {
  if (!fillable())
    throw Problem(409, "no-cache", "the manager has no cache: neither [redis] url nor backup_dir is configured");
  if (dataset.version.empty()) throw Problem(409, "not-ready", "the dataset has not been listed yet", 1);
  if (!copies_.start(dataset.id, "", plan, opener(dataset, domain), std::move(done)))
    throw dataset_busy();
}

CopyStatus JobCache::look(const DatasetRecord& dataset, const std::string& domain, const Interrupt& interrupt) {
  CopyStatus status{.work = Work::kLook};
  walk(*open(dataset, domain), {.work = Work::kLook},
       {.change = [&](const std::function<void(CopyStatus&)>& change) { change(status); }, .check = interrupt});
  return status;
}

Problem dataset_busy() {
  return {409, "dataset-busy", "other work on the dataset goes on; cancel it, or wait for its end", 1};
}

std::string JobCache::key_namespace() const {
  return domains_.redis() != nullptr ? domains_.redis()->options().key_namespace : SpillOptions().key_namespace;
}

bool JobCache::knows(const std::string& version) const { return catalog_->manifest_blob(version).has_value(); }

std::shared_ptr<DatasetChunks> JobCache::open(const DatasetRecord& dataset, const std::string& domain) {
  const auto blob = catalog_->manifest_blob(dataset.version);
  if (!blob) throw CacheError(fmt::format("the manager does not keep manifest {} any more", dataset.version));
  auto source = open_source_(dataset.client, dataset.datasource);
  const std::string name = dataset_name(*source, dataset.datasource.keys, {});
  const auto manifest = Manifest::decode(*blob, "");
  const auto node = domains_.node(domain);
  // All of a version share what they know: for the directory they are one job.
  const std::lock_guard lock(mutex_);
  std::erase_if(hashes_, [](const auto& known) { return known.second.expired(); });
  auto& hashes = hashes_[fmt::format("{}\n{}\n{}", dataset.version, name, domain)];
  auto chunks = std::make_shared<DatasetChunks>(node, std::move(source), manifest, CacheOptions().chunk_size, name, hashes.lock());
  hashes = chunks->hashes();
  return chunks;
}

// Mostly one file is touched. All chunks are looked up where the directory does not know them all: some could not be copied, or its
// file is gone.
void JobCache::name_chunks(const DatasetRecord& dataset, const std::string& domain, const Interrupt& interrupt) {
  if (options_.tiers.directory.empty()) return;
  if (const auto work = copies_.status(dataset.id); work && work->running) return;  // which names what it finds
  const auto node = domains_.node(domain);
  if (node->spill == nullptr) return;
  const std::string name = dataset_name(*open_source_(dataset.client, dataset.datasource), dataset.datasource.keys, {});
  if (node->spill->name_again(dataset_tag(name), named_version(dataset.version, CacheOptions().chunk_size))) return;
  open(dataset, domain)->learn_hashes(interrupt);
}

}  // namespace alnair::manager
