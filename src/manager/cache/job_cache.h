// The cache's side of live jobs: their users in Redis, how they reach it, and the copies that they wait for.
//
// Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "alnair/catalog/catalog.h"
#include "manager/cache/copies.h"
#include "manager/cache/domains.h"
#include "manager/cache/misses.h"
#include "manager/cache/redis_users.h"
#include "manager/http/message.h"
#include "manager/records/records.h"

namespace alnair::manager {

class JobCache {
 public:
  struct Options {
    Domains::Options tiers;
    std::string shared_url;  // what all jobs get, in place of users of their own; empty: they get those
    std::string proxy_host;  // through which jobs reach Redis; empty: they reach the servers themselves
    std::uint16_t proxy_port = 0;
    std::size_t copies = 2;
  };
  using OpenSource = std::function<std::shared_ptr<ObjectSource>(const std::string& client, const Datasource&)>;

  using Presign = Misses::Presign;

  // Throws ConfigError, AccessError: Redis is not what it is said to be, or forbids what the manager needs.
  JobCache(Options options, std::shared_ptr<Catalog> catalog, OpenSource open_source, Presign presign);

  bool fillable() const { return domains_.fillable(); }
  Domains::Usage last_usage() const;  // as reconcile() found it: waits for nothing
  std::optional<std::uint64_t> capacity() const;  // of all shared tiers together, likewise; none: unknown, or without limit
  bool makes_users() const { return users_.has_value(); }
  std::string key_namespace() const;  // of all that is in the shared tiers
  Domains::Usage usage() { return domains_.usage(); }

  // The URL by which a job of that domain reaches Redis, with its password in it; empty: there is no Redis.
  std::string redis_url(const std::string& job, const std::string& domain, const std::string& password) const;

  // Makes a job's user; waits for Redis. Never throws: what fails is tried again by reconcile().
  void admit(const JobRecord& job, const std::string& domain);
  void know(const JobRecord& job, const std::string& domain);  // one of before the manager's start
  void change(const JobRecord& job, const std::string& domain);  // its passwords; reconcile() tells Redis
  void dismiss(const std::string& job);
  void reconcile();

  // Copies the version of a dataset that `dataset` has, for a job (Copies::start). Other work on it ends.
  void copy(const DatasetRecord& dataset, const std::string& domain, const std::string& job, const CopyPlan& plan,
            Copies::Done done);
  // The same as `plan` says, for whoever asks. Problem: 409 other work goes on.
  void work(const DatasetRecord& dataset, const std::string& domain, const CopyPlan& plan, Copies::Done done);
  // How much of it is cached, and where. Waits. Throws as open(), and what `interrupt` throws.
  CopyStatus look(const DatasetRecord& dataset, const std::string& domain, const Interrupt& interrupt);
  Copies& copies() { return copies_; }
  Misses& misses() { return misses_; }
  OpenChunks opener(const DatasetRecord& dataset, const std::string& domain) {
    return [this, dataset, domain] { return open(dataset, domain); };
  }

  // Says in the directory that live jobs, or a pin, name the chunks of that version. Waits. Throws as open(), and what `interrupt`
  // throws.
  void name_chunks(const DatasetRecord& dataset, const std::string& domain, const Interrupt& interrupt);
  void tend() { domains_.tend(); }  // gives up what nobody names; once all is named

  bool knows(const std::string& version) const;  // its manifest. Throws CacheError

  // That version in its domain's tiers. Waits. Throws CacheError: its manifest is not known any more; ConfigError, Problem.
  std::shared_ptr<DatasetChunks> open(const DatasetRecord& dataset, const std::string& domain);

 private:
  const Options options_;
  const std::shared_ptr<Catalog> catalog_;
  const OpenSource open_source_;
  Domains domains_;
  mutable std::mutex mutex_;
  Domains::Usage last_usage_;  // guarded by mutex_
  std::map<std::string, std::weak_ptr<SharedHashes>> hashes_;  // by domain, dataset and version; guarded by mutex_
  std::optional<RedisUsers> users_;
  Copies copies_;  // last: their threads use the rest
  Misses misses_;
};

Problem dataset_busy();  // 409: work of another kind goes on

}  // namespace alnair::manager
