#include "manager/server/manager.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "alnair/core/error.h"
#include "cache/private_directory.h"
#include "cache/redis/flush_policy.h"
#include "core/block_signals.h"
#include "core/log.h"
#include "core/wall_clock.h"
#include "manager/api/api.h"
#include "manager/api/json.h"
#include "manager/cache/job_cache.h"
#include "manager/http/listener.h"
#include "manager/http/server.h"
#include "manager/identity/crypto.h"
#include "manager/server/state_files.h"
#include "manager/service/request_rate.h"

namespace alnair::manager {
namespace {

std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }

std::string checked_directory(const Config& config) {
  if (!is_loopback(config.bind) && config.tls_certificate.empty() && !config.insecure_bind)
    throw ConfigError(
        fmt::format("bind is {}, which other hosts can reach, and there is no TLS: passwords, tokens and S3 credentials "
                    "would travel in the clear. Set [tls] certificate and key, bind to 127.0.0.1 behind a proxy that "
                    "speaks TLS, or set insecure_bind = true on a network where everybody is trusted",
                    config.bind));
  try {
    return open_private_directory(config.state_dir);
  } catch (const CacheError& error) {
    throw ConfigError(fmt::format("state_dir: {}", error.what()));
  }
}

Sealer sealer_for(const Config& config) {
  const std::string key =
      config.seal_key.empty() ? secret_file(config.seal_key_file, "seal key", Sealer::new_key) : config.seal_key;
  if (const auto sealer = Sealer::from_hex(key)) return *sealer;
  throw ConfigError(fmt::format("the seal key {}: expected 64 lower-case hex digits", config.seal_key_file));
}

// So many that no live job's is forgotten, in the worst case by days of new versions.
constexpr CatalogLimits kManifests{.versions = 64, .manifests = 100'000};

constexpr std::uint64_t kBetweenCollections = 60;  // sweeps, one a second
constexpr std::chrono::seconds kBetweenLooks{1};
// Datasets whose use is written to the records.
constexpr std::size_t kKeptASecond = 5, kKeptAtTheEnd = 1'000;
// What has been named within 15 minutes does not leave the directory for want of room, either (docs/cluster.md).
constexpr std::chrono::minutes kBetweenNamings{10};
constexpr std::chrono::minutes kUrlLife{15};  // of what is handed to jobs without credentials

Response answer_standing_by(const Request& request) {
  if (request.path == std::vector<std::string>{"healthz"}) return json_response(200, {{"status", "standby"}});
  return problem_response({503, "standby", "this manager waits for the end of another one: ask that one", 5},
                          request.id);
}

std::chrono::seconds seconds(std::uint64_t count) { return std::chrono::seconds(count); }

JobCache::Options cache_options(const Config& config) {
  Flusher::Options flusher;
  if (config.flush_frequency > 0) flusher.frequency = std::chrono::minutes(config.flush_frequency);
  if (config.flush_amount > 0) flusher.pace.most_bytes = config.flush_amount;
  flusher.policy = flush_policy(flush_order(config.flush_policy).value());
  return {.tiers = {.redis_url = config.redis_url,
                    .directory = config.backup_dir,
                    .directory_mode = directory_mode(config),
                    .flusher = flusher},
          .shared_url = config.redis_shared_url,
          .proxy_host = config.enable_proxy ? config.redis_proxy_host : "",
          .proxy_port = config.redis_proxy_port,
          .copies = config.copies};
}

class RunningManager final : public Manager {
 public:
  RunningManager(const Config& config, const Patience& patience)
      : config_(config),
        directory_(checked_directory(config)),
        server_(config.standby ? listen_early() : nullptr),
        records_(open_records(config, directory_, config.standby ? patience : Patience())),
        catalog_(open_sqlite_catalog(directory_ + "/catalog", kManifests)),
        clients_(*records_, sealer_for(config),
                 {config.create_clients, seconds(config.session_life), config.max_clients, config.max_jobs_per_client},
                 now),
        listings_(
            catalog_, [this](const std::string& client, const Datasource& source) { return open(client, source); },
            config.listings),
        cache_(cache_options(config), catalog_,
               [this](const std::string& client, const Datasource& source) { return open(client, source); },
               [this](const DatasetRecord& dataset, const std::string& key) {
                 return presign_get(dataset.datasource.bucket, key, s3_options(dataset.client, dataset.datasource),
                                    kUrlLife);
               }),
        jobs_(*records_, clients_, listings_, &cache_,
              {seconds(config.token_life), seconds(config.grace), config.max_jobs, config.max_jobs_per_client}, now),
        api_({config_, *catalog_, clients_, listings_, jobs_, usage_, cache_,
              hash_token(secret_file(directory_ + "/admin.token", "administrator's token", random_token)),
              [this] {
                records_->check();
                return stopping_.load();
              },
              [this] { return server_ == nullptr ? 0 : server_->connections(); },
              now()}) {
    jobs_.resume();
    active_ = &api_;
    try {
      if (server_ == nullptr) server_ = config.standby ? listen_in_turn() : listen();
    } catch (...) {  // what goes on in the background must not outlive the jobs that it is for
      listings_.stop();
      cache_.copies().stop();
      throw;
    }
    const BlockSignals block;
    sweeper_ = std::thread([this] { sweep(); });
    reconciler_ = std::thread([this] { reconcile(); });
    namer_ = std::thread([this] { name_chunks(); });
    looker_ = std::thread([this] { look(); });
  }

  ~RunningManager() override { stop(std::chrono::milliseconds(0)); }

  std::uint16_t port() const override { return server_->port(); }

  bool lost() const override { return !records_->held(); }

  void stop(std::chrono::milliseconds deadline) override {
    if (stopping_.exchange(true)) return;
    server_->stop(deadline);
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    sweeper_.join();
    reconciler_.join();
    namer_.join();
    looker_.join();
    listings_.stop();
    cache_.copies().stop();
    cache_.misses().stop();
    try {
      jobs_.keep_uses(kKeptAtTheEnd);
    } catch (const CacheError&) {  // statistics
    }
  }

 private:
  std::unique_ptr<Server> listen() {
    return Server::start({.address = config_.bind,
                          .port = config_.port,
                          .tls = {config_.tls_certificate, config_.tls_key, config_.tls_client_ca},
                          .max_body_bytes = config_.max_body,
                          .max_header_bytes = config_.max_header,
                          .max_connections = static_cast<unsigned>(config_.max_connections),
                          .idle_timeout = seconds(config_.idle_timeout),
                          .request_timeout = seconds(config_.request_timeout)},
                         [this](const Request& request) {
                           Api* api = active_;
                           return api != nullptr ? api->handle(request) : answer_standing_by(request);
                         });
  }

  // On the host of the manager that it waits for, the port is taken until that one ends.
  std::unique_ptr<Server> listen_early() {
    try {
      return listen();
    } catch (const ConfigError& error) {
      log(LogLevel::kInfo, "while standing by: {}", error.what());
      return nullptr;
    }
  }

  // The port of one that was killed is free a moment after its lock.
  std::unique_ptr<Server> listen_in_turn() {
    for (int attempt = 1; attempt < 50; ++attempt) {
      if (auto server = listen_early()) return server;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return listen();
  }

  // The bucket, with the client's credentials and never with this process's own.
  std::shared_ptr<ObjectSource> open(const std::string& client, const Datasource& source) {
    return limited_source(open_s3_source(source.bucket, s3_options(client, source)), rate_of(client));
  }

  // One for all of a client's sources, with the quota of now.
  std::shared_ptr<RequestRate> rate_of(const std::string& client) {
    const std::lock_guard lock(mutex_);
    auto& rate = rates_[client];
    if (rate == nullptr) rate = std::make_shared<RequestRate>();
    rate->set(clients_.quota_of(client).s3_requests_per_second);
    return rate;
  }

  S3Options s3_options(const std::string& client, const Datasource& source) const {
    const S3Auth auth = clients_.s3_auth(client);
    S3Options options;
    options.credentials = auth.credentials;
    options.endpoint_url = source.endpoint_url.empty() ? auth.endpoint_url : source.endpoint_url;
    options.region = source.region.empty() ? auth.region : source.region;
    options.event_loop_threads = 1;
    return options;
  }

  void sweep() {
    std::uint64_t sweeps = 0;
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::seconds(1), [&] { return ended_; })) {
      lock.unlock();
      try {
        if (!records_->held()) {
          log(LogLevel::kError, "another manager has taken over: stopping");
          kill(getpid(), SIGTERM);
          return;
        }
        clients_.sweep();
        jobs_.sweep();
        usage_.sample(now(), milliseconds_now());
        jobs_.keep_uses(kKeptASecond);
        if (++sweeps % kBetweenCollections == 0) jobs_.collect();
      } catch (const std::exception& error) {  // the records: tried again in a second
        if (once_.first()) log(LogLevel::kError, "what has expired stays for now: {}", error.what());
      }
      lock.lock();
    }
  }

  // By itself: Redis may keep it waiting.
  void reconcile() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::seconds(2), [&] { return ended_; })) {
      lock.unlock();
      try {
        cache_.reconcile();
      } catch (const std::exception& error) {
        if (no_users_.first()) log(LogLevel::kError, "{}", error.what());
      }
      lock.lock();
    }
  }

  void interrupt() const {
    if (stopping_) throw CancelledError("the manager is stopping");
  }

  // How much is cached of datasets: takes a tenth of a core at most.
  void look() {
    std::chrono::steady_clock::duration pause = kBetweenLooks;
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, pause, [&] { return ended_; })) {
      lock.unlock();
      const auto begun = now();
      try {
        jobs_.look([this] { interrupt(); });
      } catch (const CancelledError&) {
      }
      pause = std::max<std::chrono::steady_clock::duration>(9 * (now() - begun), kBetweenLooks);
      lock.lock();
    }
  }

  // By itself: the directory, and Redis, may keep it waiting.
  void name_chunks() {
    std::unique_lock lock(mutex_);
    do {
      lock.unlock();
      try {
        jobs_.name_chunks([this] { interrupt(); });
      } catch (const CancelledError&) {
      }
      lock.lock();
    } while (!changed_.wait_for(lock, kBetweenNamings, [&] { return ended_; }));
  }

  const Config config_;
  const std::string directory_;
  std::atomic<Api*> active_{nullptr};  // null: standing by
  std::unique_ptr<Server> server_;
  const std::unique_ptr<Records> records_;
  const std::shared_ptr<Catalog> catalog_;
  std::atomic<bool> stopping_{false};
  Clients clients_;
  Listings listings_;
  JobCache cache_;
  Jobs jobs_;
  UsageTotals usage_;
  Api api_;
  Once once_, no_users_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::map<std::string, std::shared_ptr<RequestRate>> rates_;  // by client
  std::thread sweeper_, reconciler_, namer_, looker_;
};

}  // namespace

std::unique_ptr<Records> open_records(const Config& config, const std::string& directory, const Patience& patience) {
  if (config.mongodb_uri.empty()) return open_sqlite_records(directory, patience);
  return open_mongodb_records(directory, {config.mongodb_uri, std::chrono::seconds(config.mongodb_lease)}, patience);
}

std::unique_ptr<Manager> Manager::start(const Config& config, const Patience& patience) {
  return std::make_unique<RunningManager>(config, patience);
}

}  // namespace alnair::manager
