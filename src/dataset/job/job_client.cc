// The thread goes through these steps, and back to an earlier one as answers demand:
// 1. connect, for a session's token (again when it has expired);
// 2. register, for a job's id and token (again when the manager does not know the job any more);
// 3. look every moment how far the registration is; when it is ready, fetch the manifest;
// 4. send heartbeats with what was read, every ten seconds, or three in a token's life.
// Where the manager does not answer it tries again, ever more seldom. A failed registration is begun again after a
// while. Who registers again asks for the same id, and names the passwords of its user in Redis that processes still have.
// When it is told of other credentials it connects with those first, and goes on where it was.
#include "alnair/dataset/job_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/core/hash.h"
#include "cache/redis/flush_policy.h"
#include "core/block_signals.h"
#include "core/fork.h"
#include "core/log.h"
#include "core/percent.h"
#include "dataset/job/manager_api.h"
#include "dataset/job/password_file.h"
#include "dataset/job/use_reporter.h"
#include "s3/sigv4.h"

namespace alnair {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using Milliseconds = std::chrono::milliseconds;

constexpr Milliseconds kFirstDelay{200}, kLongestDelay{30'000};
constexpr Milliseconds kFirstLook{20}, kLongestLook{1'000};  // between looks at a registration
constexpr Milliseconds kFailedAgain{30'000};
constexpr Milliseconds kHeartbeat{10'000};
constexpr std::chrono::seconds kMissPatience{60};
constexpr std::size_t kEarlierPasswords = 4;  // of Redis, that are still to do
constexpr std::size_t kHashesPage = 1 << 20;  // bytes; what an answer of the manager has at most

json connect_body(const ManagerOptions& options) {
  json body = {{"name", options.username}, {"password", options.password}};
  if (!options.s3_credentials) return body;
  json s3 = {{"access_key_id", options.s3_credentials->access_key_id},
             {"secret_access_key", options.s3_credentials->secret_access_key}};
  if (!options.s3_credentials->session_token.empty()) s3["session_token"] = options.s3_credentials->session_token;
  if (!options.s3_region.empty()) s3["region"] = options.s3_region;
  if (!options.s3_endpoint_url.empty()) s3["endpoint_url"] = options.s3_endpoint_url;
  body["s3"] = std::move(s3);
  return body;
}

// Of a field that may be null.
std::string text(const json& object, const char* field) {
  const json& value = object.at(field);
  return value.is_null() ? "" : value.get<std::string>();
}

json job_body(const JobOptions& job) {
  json body = {{"name", job.name},
               {"node", job.node},
               {"datasource", {{"bucket", job.bucket}, {"keys", job.keys}}},
               {"qos",
                {{"usecache", job.usecache},
                 {"maxmemory", job.maxmemory},
                 {"durabilityindisk", job.durabilityindisk},
                 {"lazyloading", job.lazyloading}}},
               {"single_pass", job.single_pass}};
  if (!job.resources.empty()) body["resources"] = json::parse(job.resources);
  return body;
}

// As the manager knows it: SHA-256, in hex.
std::string password_hash(const std::string& redis_url) {
  const std::string password = password_of(redis_url);
  return password.empty() ? "" : hex(sha256(password));
}

// What a client shares with its thread; a forked child abandons it.
class Worker {
 public:
  Worker(const ManagerOptions& manager, const JobOptions& job, std::function<void(const JobStatus&)> changed)
      : job_(job),
        on_change_(std::move(changed)),
        options_(manager),
        earlier_id_(job.earlier_id) {
    reach(options_);
    remember_password(job.earlier_redis);
    const BlockSignals block;
    thread_ = std::thread([this] { run(); });
  }

  JobStatus status() const {
    const std::lock_guard lock(mutex_);
    return status_;
  }

  JobStatus wait(Milliseconds patience) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience,
                      [&] { return stopping_ || status_.state == "ready" || status_.state == "failed"; });
    return status_;
  }

  void report(std::map<std::string, double> counters, std::vector<NodeTier> tiers) {
    json report = {{"counters", std::move(counters)}};
    if (!tiers.empty()) report["tiers"] = to_json(tiers);
    const std::lock_guard lock(mutex_);
    report_ = std::move(report);
  }

  void renew(const ManagerOptions& manager) {
    api_of(manager);  // throws here if it is none
    {
      const std::lock_guard lock(mutex_);
      renewed_ = manager;
    }
    changed_.notify_all();
  }

  std::vector<ChunkAnswer> locate(const std::vector<ChunkQuestion>& chunks) {
    json wanted = json::array();
    for (const ChunkQuestion& chunk : chunks)
      wanted.push_back({{"key", percent_encoded(chunk.key)}, {"chunk", chunk.chunk}});
    const json body = {{"chunks", wanted}};
    const auto deadline = std::chrono::steady_clock::now() + kMissPatience;
    for (Milliseconds pause = kFirstLook;; pause = std::min(2 * pause, kLongestLook)) {
      std::string id, token;
      std::shared_ptr<ManagerApi> manager;
      {
        const std::lock_guard lock(mutex_);
        id = status_.id;
        token = known_token_;
        manager = questions_;
      }
      try {
        if (id.empty()) throw ManagerFailure(0, "", "the job is not registered now");
        const json places = manager->call(HttpMethod::kPost, "/v1/jobs/" + id + "/misses", token, body).at("chunks");
        std::vector<ChunkAnswer> answers;
        bool pending = false;
        for (const json& place : places) {
          answers.push_back({place.at("state"), text(place, "hash"), text(place, "url"), text(place, "failure")});
          pending |= answers.back().state == "pending";
        }
        if (!pending) return answers;
      } catch (const ManagerFailure& failure) {  // the manager may be back in a moment, or the job registered again
        if (failure.status() == 422 || std::chrono::steady_clock::now() >= deadline) throw SourceError(failure.what());
      } catch (const json::exception&) {
        throw SourceError(fmt::format("the manager at {} answers what is not understood", manager->url()));
      }
      if (std::chrono::steady_clock::now() >= deadline)
        throw TimeoutError(
            fmt::format("the manager at {} has not brought the chunks in {} s", manager->url(), kMissPatience.count()));
      sleep(pause);
      if (stopping()) throw SourceError("the job is closed");
    }
  }

  void close(Milliseconds patience) {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
    api_->set_interrupt({});
    api_->set_timeout(std::max(patience / 2, Milliseconds(1)));
    try {
      if (!id_.empty()) api_->call(HttpMethod::kDelete, "/v1/jobs/" + id_, token_, nullptr);
      id_.clear();
      if (!session_.empty()) api_->call(HttpMethod::kPost, "/v1/disconnect", session_, json::object());
      session_.clear();
    } catch (const ManagerFailure& failure) {  // the manager ends it when no heartbeats come
      log(LogLevel::kInfo, "the job {} could not be deregistered: {}", job_.name, failure.what());
    }
  }

 private:
  void run() {
    Milliseconds delay = kFirstDelay;
    while (!stopping()) {
      try {
        const Milliseconds pause = step();
        delay = kFirstDelay;
        sleep(pause);
      } catch (const CancelledError&) {
        return;
      } catch (const ManagerFailure& failure) {
        sleep(after(failure, delay));
      } catch (const json::exception& error) {
        set_failed(fmt::format("the manager at {} answers what is not understood: {}", api_->url(), error.what()));
        sleep(kFailedAgain);
      }
    }
  }

  static std::shared_ptr<ManagerApi> api_of(const ManagerOptions& manager) {
    return std::make_shared<ManagerApi>(manager.url, manager.ca_bundle, manager.tls_cert, manager.tls_key);
  }

  void reach(const ManagerOptions& manager) {
    api_ = api_of(manager);
    api_->set_interrupt([this] {
      const std::lock_guard lock(mutex_);
      if (stopping_) throw CancelledError("the job is closed");
    });
    const std::lock_guard lock(mutex_);
    questions_ = api_of(manager);
  }

  // Goes on with what renew() was told. A job of another manager or client is another job.
  void take_up_renewed() {
    std::optional<ManagerOptions> renewed;
    {
      const std::lock_guard lock(mutex_);
      renewed = std::exchange(renewed_, std::nullopt);
    }
    if (renewed) {
      end_if_of_another(*renewed);
      options_ = *std::move(renewed);
      reach(options_);
      session_.clear();
      to_tell_ = true;
    }
    if (!std::exchange(to_tell_, false) || id_.empty()) return;  // without a job the next step connects
    try {
      session_ = api_->call(HttpMethod::kPost, "/v1/connect", "", connect_body(options_)).at("token");
    } catch (const ManagerFailure& failure) {
      to_tell_ = is_passing(failure);  // then it is tried again
      if (to_tell_) throw;
      log(LogLevel::kWarning, "the job {} goes on with what it had: {}", job_.name, failure.what());
    }
  }

  void end_if_of_another(const ManagerOptions& renewed) {
    if (id_.empty() || (renewed.url == options_.url && renewed.username == options_.username)) return;
    try {
      api_->call(HttpMethod::kDelete, "/v1/jobs/" + id_, token_.empty() ? session_ : token_, nullptr);
    } catch (const ManagerFailure& failure) {  // it ends without heartbeats
      log(LogLevel::kInfo, "the job {} could not be deregistered: {}", job_.name, failure.what());
    }
    forget_job();
    earlier_id_.clear();
    passwords_.clear();
  }

  // One call, or few. Returns when to do the next.
  Milliseconds step() {
    take_up_renewed();
    if (session_.empty() && (id_.empty() || token_.empty()))
      session_ = api_->call(HttpMethod::kPost, "/v1/connect", "", connect_body(options_)).at("token");
    if (token_.empty() && !id_.empty()) token_ = session_;  // a session revives its client's job
    if (id_.empty()) {
      const json job = api_->call(HttpMethod::kPost, "/v1/jobs", used_ = session_, registration());
      id_ = job.at("id");
      token_ = job.at("token");
      redis_ = text(job.at("cache"), "redis");
      remember_password(redis_);
      password_file_.write(password_of(redis_));
      look_ = kFirstLook;
      update(job);
    } else if (const std::string state = status().state; state == "ready") {
      const json beat = api_->call(HttpMethod::kPost, "/v1/jobs/" + id_ + "/heartbeat", used_ = token_, heartbeat());
      token_life_ = std::chrono::seconds(beat.at("token_life_s").get<std::int64_t>());
    } else if (state == "failed") {
      api_->call(HttpMethod::kDelete, "/v1/jobs/" + id_, used_ = token_, nullptr);
      forget_job();
      return Milliseconds(0);
    } else {
      update(api_->call(HttpMethod::kGet, "/v1/jobs/" + id_, used_ = token_, nullptr));
    }
    const std::string state = status().state;
    if (state == "ready") return std::min<Milliseconds>(token_life_ / 3, kHeartbeat);
    if (state == "failed") return kFailedAgain;
    return std::exchange(look_, std::min(2 * look_, kLongestLook));
  }

  json registration() const {
    json body = job_body(job_);
    if (!earlier_id_.empty()) body["again"] = {{"id", earlier_id_}, {"redis_hashes", passwords_}};
    return body;
  }

  void remember_password(const std::string& redis_url) {
    std::string hash = password_hash(redis_url);
    if (hash.empty() || std::find(passwords_.begin(), passwords_.end(), hash) != passwords_.end()) return;
    if (passwords_.size() == kEarlierPasswords) passwords_.erase(passwords_.begin());
    passwords_.push_back(std::move(hash));
  }

  // What this process has read, or a daemon's jobs.
  json heartbeat() const {
    json report;
    {
      const std::lock_guard lock(mutex_);
      report = report_;
    }
    if (report.is_null()) report = use_of_this_process();
    return report.empty() ? json::object() : json{{"report", report}};
  }

  void update(const json& job) {
    JobStatus next;
    next.state = job.at("state");
    next.id = id_;
    next.version = text(job, "version");
    next.detail = text(job, "failure");
    next.objects = job.at("progress").at("objects");
    next.bytes = job.at("progress").at("bytes");
    if (const json& copy = job.at("copy"); next.state == "warming" && !copy.is_null()) {
      next.objects = copy.at("objects");
      next.bytes = copy.at("cached_bytes");
    }
    const json& cache = job.at("cache");
    next.redis = redis_;
    next.redis_password_file = password_of(redis_).empty() ? "" : password_file_.path();
    next.flush_policy = flush_order(cache.value("flush_policy", "")).value_or(FlushOrder::kRecency);
    next.directory = text(cache, "directory");
    next.directory_mode = cache.at("directory_mode");
    next.key_namespace = text(cache, "namespace");
    next.domain = text(cache, "domain");
    next.chunk_size = job.at("policy").at("chunk_size");
    next.single_pass = job_.single_pass;
    token_life_ = std::chrono::seconds(job.at("token_life_s").get<std::int64_t>());
    if (next.state == "ready") {
      const View blob = api_->download("/v1/jobs/" + id_ + "/manifest", token_);
      next.manifest = std::make_shared<const std::vector<std::byte>>(blob.bytes().begin(), blob.bytes().end());
      if (next.redis.empty() && !next.directory.empty()) next.hashes = known_hashes();
    }
    set(std::move(next));
  }

  // Without Redis nothing else tells which content hashes the chunks in the directory have.
  std::shared_ptr<const std::vector<std::byte>> known_hashes() {
    std::vector<std::byte> hashes;
    for (;;) {
      const View page = api_->download(
          fmt::format("/v1/jobs/{}/hashes?from={}", id_, hashes.size() / sizeof(ContentHash::bytes)), token_);
      hashes.insert(hashes.end(), page.bytes().begin(), page.bytes().end());
      if (page.size() < kHashesPage) return std::make_shared<const std::vector<std::byte>>(std::move(hashes));
    }
  }

  static bool is_passing(const ManagerFailure& failure) {
    return failure.status() == 0 || failure.status() == 429 || failure.status() >= 500 || failure.type().empty();
  }

  // What an error means, and how long to wait.
  Milliseconds after(const ManagerFailure& failure, Milliseconds& delay) {
    if (failure.status() == 401 && failure.type() == "invalid-token") {
      if (session_ == used_) session_.clear();
      if (token_ == used_) token_.clear();
      return Milliseconds(0);
    }
    if (failure.status() == 404 && failure.type() == "unknown-job") {
      forget_job();
      return Milliseconds(0);
    }
    if (!is_passing(failure)) {
      set_failed(failure.what());
      return kFailedAgain;
    }
    JobStatus next = status();  // a ready job stays ready
    next.detail = failure.what();
    set(std::move(next));
    const Milliseconds pause = std::max<Milliseconds>(delay, failure.retry_after());
    delay = std::min(2 * delay, kLongestDelay);
    return pause;
  }

  void forget_job() {
    earlier_id_ = id_;
    id_.clear();
    token_.clear();
    JobStatus next = status();
    if (next.state != "ready") next.state = "connecting";  // what was ready can still be read
    next.id.clear();
    set(std::move(next));
  }

  void set_failed(const std::string& why) {
    JobStatus next = status();
    next.state = "failed";
    next.detail = why;
    set(std::move(next));
  }

  void set(JobStatus next) {
    {
      const std::lock_guard lock(mutex_);
      known_token_ = token_;
      status_ = next;
    }
    changed_.notify_all();
    if (on_change_) on_change_(next);
  }

  bool stopping() const {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }

  void sleep(Milliseconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [&] { return stopping_ || renewed_; });
  }

  const JobOptions job_;
  const std::function<void(const JobStatus&)> on_change_;
  ManagerOptions options_;  // the thread's, as what follows, until that has ended
  std::shared_ptr<ManagerApi> api_;
  std::string session_, id_, token_;
  std::string redis_;  // how the job reaches Redis: said at its registration only
  std::string used_;  // the token of the last call
  std::string earlier_id_;               // of the registration before
  std::vector<std::string> passwords_;  // hashes of those that were had for Redis, the last one last
  Milliseconds look_ = kFirstLook;
  Milliseconds token_life_{60'000};
  bool to_tell_ = false;  // the manager has not been told of other credentials yet
  PasswordFile password_file_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::shared_ptr<ManagerApi> questions_;  // of any thread; guarded by mutex_, as what follows
  JobStatus status_;
  std::string known_token_;
  json report_;  // of other processes; null: this one's counts
  std::optional<ManagerOptions> renewed_;
  bool stopping_ = false;
  std::thread thread_;
};

class ThreadedJobClient final : public JobClient {
 public:
  ThreadedJobClient(const ManagerOptions& manager, const JobOptions& job, std::function<void(const JobStatus&)> changed)
      : worker_(std::make_unique<Worker>(manager, job, std::move(changed))) {}

  ~ThreadedJobClient() override {
    close(2s);
    if (is_foreign()) static_cast<void>(worker_.release());  // its thread is in the parent
  }

  JobStatus status() const override { return worker_->status(); }
  JobStatus wait(Milliseconds patience) const override { return worker_->wait(patience); }

  void report(std::map<std::string, double> counters, std::vector<NodeTier> tiers) override {
    if (!is_foreign()) worker_->report(std::move(counters), std::move(tiers));
  }

  void renew(const ManagerOptions& manager) override {
    if (!is_foreign()) worker_->renew(manager);
  }

  std::vector<ChunkAnswer> locate(const std::vector<ChunkQuestion>& chunks) const override {
    if (is_foreign()) throw SourceError("a forked child cannot ask the manager");
    return worker_->locate(chunks);
  }

  void close(Milliseconds patience) override {
    const std::lock_guard lock(closing_);
    if (closed_ || is_foreign()) return;
    closed_ = true;
    worker_->close(patience);
  }

 private:
  bool is_foreign() const { return generation_ != fork_generation(); }

  const std::uint64_t generation_ = fork_generation();
  std::mutex closing_;
  bool closed_ = false;
  std::unique_ptr<Worker> worker_;
};

}  // namespace

std::shared_ptr<JobClient> JobClient::start(const ManagerOptions& manager, const JobOptions& job,
                                            std::function<void(const JobStatus&)> changed) {
  return std::make_shared<ThreadedJobClient>(manager, job, std::move(changed));
}

void JobClient::configure(DatasetOptions& options) const {
  const JobStatus now = status();
  if (now.manifest == nullptr) return;
  options.version = now.version;
  options.manifest = now.manifest;
  options.cache.single_pass |= now.single_pass;
  if (!options.cache.use_cache || !options.cache.redis.empty()) return;
  options.cache.redis =
      now.redis_password_file.empty() ? now.redis : with_password_file(now.redis, now.redis_password_file);
  if (options.cache.flush_policy == FlushOrder::kRecency) options.cache.flush_policy = now.flush_policy;
  if (!options.cache.spill.empty() || now.directory.empty()) return;
  options.cache.spill = {now.directory};
  options.cache.spill_mode = now.directory_mode;
  options.cache.spill_namespace = now.key_namespace;
  options.cache.spill_domain = now.domain;
  if (options.cache.chunk_size == now.chunk_size) options.hashes = now.hashes;
}

}  // namespace alnair
