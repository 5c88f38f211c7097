#include "s3/s3_core.h"

#include <cstdlib>

#include "core/log.h"
#include "core/metrics.h"
#include "s3/s3_operation.h"

namespace alnair {
namespace {

constexpr auto kLookInterval = std::chrono::milliseconds(50);

}  // namespace

S3Core::S3Core(S3Config the_config, std::shared_ptr<HttpClient> client,
               std::unique_ptr<CredentialCache> the_credentials)
    : config(std::move(the_config)),
      http(std::move(client)),
      credentials(std::move(the_credentials)),
      place_(std::make_shared<const Place>(Place{config.region, address_of(config, config.region)})),
      limit_(config.options.max_requests > 0
                 ? std::min(config.options.max_requests, config.options.max_connections)
                 : config.options.max_connections),
      random_(std::random_device{}()) {}

std::shared_ptr<const S3Core::Place> S3Core::place() const {
  const std::lock_guard lock(mutex_);
  return place_;
}

std::shared_ptr<const S3Credentials> S3Core::signer() const {
  const std::lock_guard lock(mutex_);
  return signer_;
}

void S3Core::set_signer(const S3Credentials& latest) {
  const std::lock_guard lock(mutex_);
  if (!signer_ || signer_->access_key_id != latest.access_key_id ||
      signer_->secret_access_key != latest.secret_access_key ||
      signer_->session_token != latest.session_token)
    signer_ = std::make_shared<const S3Credentials>(latest);
}

bool S3Core::move_to(const Place& asked, const std::string& region, const std::string& origin) {
  const std::lock_guard lock(mutex_);
  Place next = asked;
  if (!region.empty() && region != asked.region) next = {region, address_of(config, region)};
  if (!origin.empty()) {
    if (asked.address.origin.starts_with("https:") && !origin.starts_with("https:")) return false;
    next.address.origin = origin;
    next.address.host = origin.substr(origin.find("://") + 3);
  }
  if (next.region == asked.region && next.address.origin == asked.address.origin)
    return place_->region != asked.region ||
           place_->address.origin != asked.address.origin;  // another request has learned it
  log(LogLevel::kInfo, "bucket '{}' is in region '{}', at {}", config.bucket, next.region,
      next.address.origin);
  place_ = std::make_shared<const Place>(std::move(next));
  return true;
}

bool S3Core::set_clock(std::string_view date_header) {
  const auto there = parse_http_date(date_header);
  if (!there) return false;
  const std::int64_t offset = *there - std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  const std::int64_t before = clock_offset_seconds_.exchange(offset);
  if (std::abs(offset - before) < 60) return false;
  log(LogLevel::kWarning,
      "this machine's clock differs from the S3 server's by {} s; requests are signed with the server's time",
      offset);
  return true;
}

void S3Core::on_success(bool after_retry, bool hedge_candidate, std::chrono::nanoseconds first_byte_after) {
  int limit = 0;
  {
    const std::lock_guard lock(mutex_);
    retry_budget_.succeeded(after_retry);
    if (hedge_candidate) hedge_policy_.first_byte(first_byte_after);
    if (limit_.succeeded()) limit = limit_.limit();
  }
  if (limit != 0) http->set_max_requests(limit);
}

void S3Core::on_throttled() {
  metrics().add(Counter::kS3Throttled);
  int limit = 0;
  {
    const std::lock_guard lock(mutex_);
    if (limit_.throttled(Clock::now())) limit = limit_.limit();
  }
  if (limit != 0) {
    log(LogLevel::kInfo, "S3 asks to slow down: at most {} requests in flight now", limit);
    http->set_max_requests(limit);
  }
}

std::chrono::milliseconds S3Core::take_retry(RetryReason reason) {
  const std::lock_guard lock(mutex_);
  return retry_budget_.take(reason, Clock::now());
}

std::chrono::milliseconds S3Core::draw_backoff(RetryReason reason, int retry) {
  const std::lock_guard lock(mutex_);
  return backoff(reason, retry, std::uniform_real_distribution<double>(0, 1)(random_));
}

void S3Core::watch(S3Operation& operation) {
  const std::lock_guard lock(mutex_);
  hedge_policy_.sent();
  operation.watch_index = watched_.size();
  watched_.push_back(&operation);
  schedule_look();
}

void S3Core::unwatch(S3Operation& operation) {
  const std::lock_guard lock(mutex_);
  if (operation.watch_index == S3Operation::kNotWatched) return;
  watched_[operation.watch_index] = watched_.back();
  watched_[operation.watch_index]->watch_index = operation.watch_index;
  watched_.pop_back();
  operation.watch_index = S3Operation::kNotWatched;
}

// With mutex_ held. Looks happen only while something is in flight.
void S3Core::schedule_look() {
  if (look_scheduled_) return;
  look_scheduled_ = true;
  http->run_after(kLookInterval, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->look_for_stragglers();
  });
}

void S3Core::look_for_stragglers() {
  std::vector<std::shared_ptr<S3Operation>> stragglers;
  {
    const std::lock_guard lock(mutex_);
    look_scheduled_ = false;
    if (watched_.empty()) return;
    const auto silent_since = Clock::now() - hedge_policy_.threshold();
    for (S3Operation* operation : watched_)  // they unwatch themselves before they end
      if (operation->silent_since(silent_since) && hedge_policy_.take())
        stragglers.push_back(operation->weak_from_this().lock());
    schedule_look();
  }
  for (const auto& straggler : stragglers)
    if (straggler) straggler->hedge();
}

S3Asked S3Core::asked(S3Asked::What what, const std::string& object_key, int attempts) const {
  const auto current = place();
  const auto key = signer();
  return {what,
          config.bucket,
          object_key,
          config.endpoint_text(current->region),
          current->region,
          key ? key->access_key_id : "",
          attempts};
}

}  // namespace alnair
