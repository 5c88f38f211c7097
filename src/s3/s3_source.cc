#include "alnair/source/s3_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <random>
#include <thread>

#include "alnair/core/error.h"
#include "core/fork.h"
#include "core/metrics.h"
#include "s3/credentials/chain.h"
#include "s3/read_check.h"
#include "s3/s3_core.h"
#include "s3/s3_listing.h"
#include "s3/s3_operation.h"
#include "s3/s3_source_sharing.h"

namespace alnair {
namespace {

constexpr std::uint64_t kErrorBodyRoom =
    64 << 10;  // bytes: an error document may be longer than the range asked for

int loop_threads(int wanted) {
  if (wanted > 0) return wanted;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 4);
}

LoadedCredentials load_for(const S3Config& config, const Interrupt& interrupt) {
  const auto http =
      make_http_client({.threads = 1, .max_connections = 2, .max_requests = 2, .ca_bundle = config.ca_bundle});
  return load_credentials(config.options.profile, config.region, CredentialContext::of_process(http), interrupt);
}

std::unique_ptr<CredentialCache> make_credentials(const S3Config& config) {
  if (config.options.anonymous) return nullptr;
  if (config.options.credentials) return std::make_unique<CredentialCache>(*config.options.credentials);
  return std::make_unique<CredentialCache>(
      [config](const Interrupt& interrupt) { return load_for(config, interrupt); },
      [] { return std::chrono::system_clock::now(); },
      [random = std::minstd_rand(std::random_device{}())]() mutable {
        return std::uniform_real_distribution<double>(0, 1)(random);
      });
}

std::shared_ptr<S3Core> make_core(const S3Config& config, std::shared_ptr<RequestSlots> slots = nullptr) {
  HttpClientOptions http;
  http.threads = loop_threads(config.options.event_loop_threads);
  http.max_connections = config.options.max_connections;
  http.max_requests =
      config.options.max_requests > 0 ? config.options.max_requests : config.options.max_connections;
  http.max_bytes_in_flight = config.options.max_bytes_in_flight;
  http.ca_bundle = config.ca_bundle;
  http.slots = std::move(slots);
  return std::make_shared<S3Core>(config, make_http_client(http), make_credentials(config));
}

// A read that was over when it began.
class Ended final : public PendingRead {
 public:
  void cancel() override {}
};

class S3Source final : public ObjectSource {
 public:
  S3Source(S3Config config, std::shared_ptr<RequestSlots> slots)
      : config_(std::move(config)),
        core_([this, slots = std::move(slots)] { return make_core(config_, slots); }) {}

  std::string identity() const override { return config_.identity(); }

  void list(std::span<const std::string> prefixes, const std::function<void(std::vector<ObjectInfo>&&)>& page,
            const Interrupt& interrupt) override {
    list_objects(core_.get(), prefixes, page, interrupt);
  }

  std::vector<std::string> names_below(std::string_view prefix, std::size_t limit,
                                       const Interrupt& interrupt) override {
    return list_names_below(core_.get(), prefix, limit, interrupt);
  }

  std::optional<ObjectInfo> stat(std::string_view key, const Interrupt& interrupt) override;
  std::shared_ptr<PendingRead> read(ReadRequest request, ReadDone done) override;

 private:
  S3Call call_for(S3Asked::What what, std::string_view key) const {
    S3Call call;
    call.what = what;
    call.key = key;
    if (config_.options.requester_pays) call.signed_headers.push_back({"x-amz-request-payer", "requester"});
    return call;
  }

  const S3Config config_;
  ForkLocal<S3Core> core_;
  const std::shared_ptr<BucketFacts> facts_ = std::make_shared<BucketFacts>(config_.object_url(""));
};

// Waits for an operation, with interruption.
HttpResponse wait_for(const std::shared_ptr<S3Core>& core, S3Call call, const Interrupt& interrupt) {
  struct Outcome {
    std::mutex mutex;
    std::condition_variable ready;
    bool done = false;
    HttpResponse response;
    std::exception_ptr error;
  };
  const auto outcome = std::make_shared<Outcome>();  // outlives this call if `interrupt` throws
  call.done = [outcome](HttpResponse&& response, std::exception_ptr error) {
    const std::lock_guard lock(outcome->mutex);
    outcome->response = std::move(response);
    outcome->error = std::move(error);
    outcome->done = true;
    outcome->ready.notify_one();
  };
  const auto operation = S3Operation::start(core, std::move(call));
  std::unique_lock lock(outcome->mutex);
  while (!outcome->ready.wait_for(lock, std::chrono::milliseconds(100), [&] { return outcome->done; })) {
    if (!interrupt) continue;
    lock.unlock();
    try {
      interrupt();
    } catch (...) {
      operation->cancel();
      throw;
    }
    lock.lock();
  }
  if (outcome->error) std::rethrow_exception(outcome->error);
  return std::move(outcome->response);
}

ObjectInfo info_from(std::string_view key, const HttpResponse& response, const std::string& object_url) {
  ObjectInfo info;
  info.key = key;
  const std::string_view length = response.headers.find("content-length").value_or("");
  const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), info.size);
  if (error != std::errc() || end != length.data() + length.size())
    throw SourceError(fmt::format("The answer to HEAD {} has no usable Content-Length.", object_url));
  const std::string_view etag = response.headers.find("etag").value_or("");
  info.etag = is_weak_etag(etag) ? etag : bare_etag(etag);
  info.last_modified_ms =
      1000 * parse_http_date(response.headers.find("last-modified").value_or("")).value_or(0);
  const std::string_view storage = response.headers.find("x-amz-storage-class").value_or("");
  const std::string_view restore = response.headers.find("x-amz-restore").value_or("");
  info.archived = (storage == "GLACIER" || storage == "DEEP_ARCHIVE") &&
                  restore.find("ongoing-request=\"false\"") == std::string_view::npos;
  return info;
}

// A refused HEAD has no body that would say why, so the bucket is asked. What that throws is clearer; where it throws
// nothing it may have learned what was wrong (the region, the time, credentials that had expired): one more try.
std::optional<ObjectInfo> S3Source::stat(std::string_view key, const Interrupt& interrupt) {
  if (key.empty()) return std::nullopt;
  const auto core = core_.get();
  const auto head = [&] {
    return info_from(key, wait_for(core, call_for(S3Asked::What::kStat, key), interrupt),
                     config_.object_url(key));
  };
  try {
    return head();
  } catch (const NotFoundError&) {
    if (core->bucket_exists.load()) return std::nullopt;
    probe_bucket(core, interrupt);
    core->bucket_exists.store(true);
    return std::nullopt;
  } catch (const AccessError&) {
    probe_bucket(core, interrupt);
  } catch (const ConfigError&) {
    probe_bucket(core, interrupt);
  }
  core->bucket_exists.store(true);
  try {
    return head();
  } catch (const NotFoundError&) {
    return std::nullopt;
  }
}

std::shared_ptr<PendingRead> S3Source::read(ReadRequest request, ReadDone done) {
  if (request.length == 0) {
    done({});
    return std::make_shared<Ended>();
  }
  S3Call call = call_for(S3Asked::What::kRead, request.object.key);
  const std::uint64_t length = request.length;
  auto check = std::make_shared<ReadCheck>(std::move(request), facts_);
  const ReadRequest& wanted = check->request();
  call.may_hedge = config_.options.hedging;
  call.expected_bytes = length;
  call.max_body_bytes = std::max(length, kErrorBodyRoom);
  if (!wanted.object.etag.empty() && !is_weak_etag(wanted.object.etag))  // for a weak one If-Match never holds
    call.headers.add("If-Match", '"' + wanted.object.etag + '"');
  if (check->whole()) {
    call.signed_headers.push_back({"x-amz-checksum-mode", "ENABLED"});
  } else {
    call.headers.add("Range", fmt::format("bytes={}-{}", wanted.offset, wanted.offset + length - 1));
  }
  call.check = [check](HttpResponse& response) { return (*check)(response); };
  call.done = [done = std::move(done)](HttpResponse&& response, std::exception_ptr error) {
    if (!error) return done({std::move(response.body), nullptr});
    if (response.failure != HttpFailure::kCancelled) metrics().add(Counter::kSourceErrors);
    done({{}, std::move(error)});
  };
  return S3Operation::start(core_.get(), std::move(call));
}

}  // namespace

std::shared_ptr<ObjectSource> open_s3_source(const std::string& bucket, const S3Options& options) {
  return open_s3_source_sharing(bucket, options, nullptr);
}

std::shared_ptr<ObjectSource> open_s3_source_sharing(const std::string& bucket, const S3Options& options,
                                                     std::shared_ptr<RequestSlots> slots) {
  return std::make_shared<S3Source>(resolve_s3_config(bucket, options), std::move(slots));
}

std::string find_s3_credentials(const std::string& bucket, const S3Options& options, const Interrupt& interrupt) {
  const S3Config config = resolve_s3_config(bucket, options);
  if (options.anonymous) return "anonymous";
  if (options.credentials) return "the job's secret";
  return load_for(config, interrupt).origin;
}

S3Location locate_s3_bucket(const std::string& bucket, const S3Options& options, const Interrupt& interrupt) {
  const auto core = make_core(resolve_s3_config(bucket, options));
  probe_bucket(core, interrupt);
  const std::string region = core->place()->region;
  return {core->config.endpoint_text(region), region};
}

std::string presign_get(const std::string& bucket, const std::string& key, const S3Options& options,
                        std::chrono::seconds expires) {
  const S3Config config = resolve_s3_config(bucket, options);
  const auto credentials = make_credentials(config);
  if (!credentials) throw ConfigError("A presigned URL needs credentials: do not set anonymous.");
  const S3Credentials signer = credentials->get(Interrupt());
  const S3Address address = address_of(config, config.region);
  const std::string path = address.path + "/" + percent_encoded(key, Slashes::kKeep);
  SigningKeyCache keys;
  return address.origin + path + "?" +
         presign_query("GET", address.host, path, {}, signer, config.region, std::chrono::system_clock::now(),
                       expires, keys);
}

}  // namespace alnair
