#include "s3/s3_operation.h"

#include <fmt/format.h>

#include <charconv>

#include "alnair/core/error.h"
#include "core/fork.h"
#include "core/metrics.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kUserAgent = "alnair/" ALNAIR_VERSION;
constexpr int kMaxDetours = 3;
constexpr std::size_t kHeaderRoom = 768;  // bytes: usually all headers of a request
constexpr auto kMaxRetryAfter = std::chrono::seconds(20);

RetryReason reason_of(S3Next next) {
  return next == S3Next::kRetryThrottled ? RetryReason::kThrottled
         : next == S3Next::kRetryTimeout ? RetryReason::kTimeout
                                         : RetryReason::kTransient;
}

milliseconds retry_after(const HttpResponse& response) {
  const auto text = response.headers.find("retry-after").value_or("");
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || seconds <= 0) return milliseconds(0);
  return std::min<milliseconds>(std::chrono::seconds(seconds), kMaxRetryAfter);
}

Counter counter_of(S3Asked::What what) {
  switch (what) {
    case S3Asked::What::kList:
      return Counter::kS3ListObjects;
    case S3Asked::What::kStat:
      return Counter::kS3HeadObject;
    case S3Asked::What::kRead:
      break;
  }
  return Counter::kS3GetObject;
}

}  // namespace

std::shared_ptr<S3Operation> S3Operation::start(std::shared_ptr<S3Core> core, S3Call call) {
  auto operation = std::make_shared<S3Operation>(std::move(core), std::move(call));
  operation->send_when_ready(Kind::kFirst);
  return operation;
}

S3Operation::S3Operation(std::shared_ptr<S3Core> core, S3Call call)
    : core_(std::move(core)), call_(std::move(call)), generation_(fork_generation()) {}

S3Operation::~S3Operation() {
  if (generation_ == fork_generation()) core_->unwatch(*this);
}

void S3Operation::cancel() {
  if (generation_ != fork_generation()) return;  // the parent's
  core_->http->run_after(milliseconds(0), [self = shared_from_this()] {
    HttpResponse none;
    none.failure = HttpFailure::kCancelled;
    std::exception_ptr error = self->error_from(none, {});
    self->finish(std::move(none), std::move(error));
  });
}

void S3Operation::send_when_ready(Kind kind) {
  if (!core_->credentials) return send(kind);
  core_->credentials->get(
      [self = shared_from_this(), kind](const S3Credentials& signer, std::exception_ptr error) {
        if (error) return self->finish({}, std::move(error));
        self->core_->set_signer(signer);
        self->send(kind);
      });
}

void S3Operation::send(Kind kind) {
  const S3Options& options = core_->config.options;
  HttpRequest request;
  request.method = call_.what == S3Asked::What::kStat ? HttpMethod::kHead : HttpMethod::kGet;
  request.expected_bytes = call_.expected_bytes;
  request.max_body_bytes = call_.max_body_bytes;
  request.connect_timeout = options.connect_timeout;
  request.stall_timeout = options.stall_timeout;
  request.timeout = std::max(time_left(), milliseconds(1));
  request.ahead = kind != Kind::kFirst;
  request.prepare = [self = shared_from_this(), kind](HttpRequest& ready) { self->prepare(ready, kind); };
  std::uint64_t serial = 0;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    serial = ++last_serial_;
    attempt_of(kind) = {nullptr, serial, true};
  }
  auto transfer =
      core_->http->start(std::move(request), [self = shared_from_this(), kind](HttpResponse&& response) {
        self->on_response(std::move(response), kind);
      });
  bool late = false;
  {
    const std::lock_guard lock(mutex_);
    Attempt& attempt = attempt_of(kind);
    late = ended_;
    if (attempt.live && attempt.serial == serial && !late) attempt.transfer = transfer;
  }
  if (late) transfer->cancel();
}

// Everything that could be stale after a wait in the queue is made here: place, time, credentials.
void S3Operation::prepare(HttpRequest& request, Kind kind) {
  const auto place = core_->place();
  const auto signer = core_->signer();
  int retries = 0;
  {
    const std::lock_guard lock(mutex_);
    place_ = place;
    signer_ = signer;
    retries = retries_ + detours_;
    if (first_sent_ == S3Core::Clock::time_point{}) first_sent_ = S3Core::Clock::now();
  }
  std::string path = place->address.path;
  if (!call_.key.empty()) path.append("/").append(percent_encoded(call_.key, Slashes::kKeep));
  if (path.empty()) path = "/";
  request.url.reserve(place->address.origin.size() + path.size() + call_.query.size() + 1);
  request.url.append(place->address.origin).append(path);
  if (!call_.query.empty()) request.url.append("?").append(call_.query);

  request.headers.reserve(kHeaderRoom);
  request.headers = call_.headers;
  switch (kind) {
    case Kind::kFirst:
      request.headers.add("User-Agent", kUserAgent);
      metrics().add(counter_of(call_.what));
      break;
    case Kind::kRetry:
      request.headers.add("User-Agent", fmt::format("{} retry={}", kUserAgent, retries));
      metrics().add(Counter::kS3Retries);
      break;
    case Kind::kHedge:
      request.headers.add("User-Agent", fmt::format("{} hedge", kUserAgent));
      metrics().add(Counter::kS3Hedges);
      break;
  }
  for (const Header& header : call_.signed_headers) request.headers.add(header.name, header.value);
  if (signer) {
    std::vector<Header> headers;
    headers.reserve(call_.signed_headers.size() + 1);
    headers.insert(headers.end(), call_.signed_headers.begin(), call_.signed_headers.end());
    headers.push_back({"Host", place->address.host});
    SigningRequest signing;
    signing.method = request.method == HttpMethod::kHead ? "HEAD" : "GET";
    signing.encoded_path = path;
    signing.query = call_.query;
    signing.headers = headers;
    signing.payload_hash = place->address.origin.starts_with("https:") ? kUnsignedPayload : kEmptyPayloadHash;
    for (const Header& header :
         sign_headers(signing, *signer, place->region, core_->now(), core_->signing_keys()))
      request.headers.add(header.name, header.value);
  }
  if (call_.may_hedge && kind == Kind::kFirst) core_->watch(*this);
}

bool S3Operation::silent_since(S3Core::Clock::time_point then) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || ended_ || !attempts_[0].live || !attempts_[0].transfer || attempts_[1].serial != 0)
    return false;
  const auto progress = attempts_[0].transfer->last_progress();
  return progress && *progress < then;
}

void S3Operation::hedge() { send(Kind::kHedge); }

void S3Operation::on_response(HttpResponse&& response, Kind kind) {
  bool other_lives = false, made_detours = false;
  std::shared_ptr<const S3Core::Place> place;
  std::shared_ptr<const S3Credentials> signer;
  {
    const std::lock_guard lock(mutex_);
    place = place_;
    signer = signer_;
    made_detours = detours_ > 0;
    attempt_of(kind).live = false;
    attempt_of(kind).transfer = nullptr;
    if (ended_) return;
    other_lives = attempts_[0].live || attempts_[1].live;
  }
  metrics().add(Counter::kS3BytesReceived, response.body.size());
  const S3Answer answer = interpret(response);
  switch (answer.next) {
    case S3Next::kAccept:
      return on_accepted(std::move(response), kind);
    case S3Next::kFail:
      break;
    case S3Next::kOtherRegion:
      if (!may_detour() || !core_->move_to(*place, answer.region, answer.location)) break;
      return send_when_ready(Kind::kRetry);
    case S3Next::kOtherTime:
      // Without a new offset there is still a point in one more try: another request may just have set the
      // clock.
      if (!core_->set_clock(response.headers.find("date").value_or("")) && made_detours) break;
      if (!may_detour()) break;
      return send_when_ready(Kind::kRetry);
    case S3Next::kNewCredentials:
      if (!signer || !may_detour()) break;
      core_->credentials->reject(signer->access_key_id);
      return send_when_ready(Kind::kRetry);
    case S3Next::kRetryThrottled:
      core_->on_throttled();
      [[fallthrough]];
    case S3Next::kRetry:
    case S3Next::kRetryTimeout:
      if (other_lives) return;  // the twin decides
      return retry(reason_of(answer.next), error_from(response, answer), retry_after(response));
  }
  std::exception_ptr error = error_from(response, answer);
  finish(std::move(response), std::move(error));
}

void S3Operation::on_accepted(HttpResponse&& response, Kind kind) {
  core_->on_success(kind == Kind::kRetry, call_.what == S3Asked::What::kRead, response.first_byte_after);
  S3Verdict verdict = Accepted{};
  if (call_.check) {
    const std::lock_guard lock(check_mutex_);
    if (call_.check) verdict = call_.check(response);
  }
  if (std::holds_alternative<Accepted>(verdict)) return finish(std::move(response), nullptr);
  if (auto* error = std::get_if<std::exception_ptr>(&verdict))
    return finish(std::move(response), std::move(*error));
  metrics().add(Counter::kS3Mismatches);
  const S3Asked asked = core_->asked(call_.what, call_.key, 1);
  retry(RetryReason::kTransient,
        std::make_exception_ptr(
            SourceError(fmt::format("What {} sent of {} is damaged: {}.", asked.endpoint,
                                    core_->config.object_url(call_.key), std::get<Damaged>(verdict).why))),
        milliseconds(0));
}

bool S3Operation::may_detour() {
  const std::lock_guard lock(mutex_);
  return detours_++ < kMaxDetours;
}

void S3Operation::retry(RetryReason reason, std::exception_ptr error, milliseconds at_least) {
  int retries = 0;
  {
    const std::lock_guard lock(mutex_);
    if (attempts_[0].live || attempts_[1].live) return;
    if (retries_ + 1 < core_->config.options.max_attempts) retries = ++retries_;
  }
  const milliseconds delay =
      retries == 0 ? milliseconds(0) : std::max(core_->draw_backoff(reason, retries), at_least);
  if (retries == 0 || delay >= time_left()) return finish({}, std::move(error));
  core_->http->run_after(delay, [self = shared_from_this(), reason, error = std::move(error)]() mutable {
    self->send_within_budget(reason, std::move(error));
  });
}

void S3Operation::send_within_budget(RetryReason reason, std::exception_ptr error) {
  const milliseconds wait = core_->take_retry(reason);
  if (wait == milliseconds(0)) return send_when_ready(Kind::kRetry);
  if (wait >= time_left()) return finish({}, std::move(error));
  core_->http->run_after(wait, [self = shared_from_this(), reason, error = std::move(error)]() mutable {
    self->send_within_budget(reason, std::move(error));
  });
}

milliseconds S3Operation::time_left() {
  const std::lock_guard lock(mutex_);
  const milliseconds all = core_->config.options.request_timeout;
  if (first_sent_ == S3Core::Clock::time_point{}) return all;
  return all - std::chrono::duration_cast<milliseconds>(S3Core::Clock::now() - first_sent_);
}

std::exception_ptr S3Operation::error_from(const HttpResponse& response, const S3Answer& answer) {
  int attempts = 0;
  {
    const std::lock_guard lock(mutex_);
    attempts = retries_ + 1;
  }
  return error_of(response, answer, core_->asked(call_.what, call_.key, attempts));
}

void S3Operation::finish(HttpResponse&& response, std::exception_ptr error) {
  std::array<std::shared_ptr<HttpTransfer>, 2> losers;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    for (std::size_t i = 0; i < losers.size(); ++i) losers[i] = std::move(attempts_[i].transfer);
  }
  core_->unwatch(*this);
  for (const auto& loser : losers)
    if (loser) loser->cancel();
  const auto done = std::move(call_.done);
  done(std::move(response), std::move(error));
}

}  // namespace alnair
