// What one process needs to talk to one bucket: the HTTP client, credentials, and what has been learned
// (region, clock, how much the server takes). Operations (s3_operation.h) run on it.
//
// Thread safety: all methods may be called from any thread at once. Not to be used in a forked child: S3
// sources keep it in a ForkLocal.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "http/client.h"
#include "s3/adaptive_limit.h"
#include "s3/credentials/cache.h"
#include "s3/hedge_policy.h"
#include "s3/retry_policy.h"
#include "s3/s3_answer.h"
#include "s3/s3_config.h"
#include "s3/sigv4.h"

namespace alnair {

class S3Operation;

class S3Core : public std::enable_shared_from_this<S3Core> {
 public:
  using Clock = std::chrono::steady_clock;

  // `the_credentials` is null for anonymous requests.
  S3Core(S3Config the_config, std::shared_ptr<HttpClient> client,
         std::unique_ptr<CredentialCache> the_credentials);

  const S3Config config;
  const std::shared_ptr<HttpClient> http;
  const std::unique_ptr<CredentialCache> credentials;

  std::atomic<bool> bucket_exists{false};  // the server has said so

  // Where requests go now.
  struct Place {
    std::string region;
    S3Address address;
  };
  std::shared_ptr<const Place> place() const;

  // The credentials to sign with, as the cache gave them last; null: none yet, or anonymous.
  std::shared_ptr<const S3Credentials> signer() const;
  void set_signer(const S3Credentials& latest);

  // An answer named another region or origin. False: it is the one that was asked already, none is known, or it
  // would leave TLS.
  bool move_to(const Place& asked, const std::string& region, const std::string& origin);

  // Sets the clock by an answer's Date header. False: the clock was right, or the header is none.
  bool set_clock(std::string_view date_header);
  SigningTime now() const {
    return std::chrono::system_clock::now() + std::chrono::seconds(clock_offset_seconds_.load());
  }

  SigningKeyCache& signing_keys() { return signing_keys_; }

  // --- What the policies need to know ---
  void on_success(bool after_retry, bool hedge_candidate, std::chrono::nanoseconds first_byte_after);
  void on_throttled();
  // Zero: retry now. Otherwise: ask again after that time.
  std::chrono::milliseconds take_retry(RetryReason reason);
  std::chrono::milliseconds draw_backoff(RetryReason reason, int retry);

  // --- Stragglers: operations in flight that may be hedged ---
  void watch(S3Operation& operation);
  void unwatch(S3Operation& operation);

  // For S3Asked in messages.
  S3Asked asked(S3Asked::What what, const std::string& key, int attempts) const;

 private:
  void schedule_look();
  void look_for_stragglers();

  mutable std::mutex mutex_;
  std::shared_ptr<const Place> place_;  // all guarded by mutex_
  std::shared_ptr<const S3Credentials> signer_;
  RetryBudget retry_budget_;
  AdaptiveLimit limit_;
  HedgePolicy hedge_policy_;
  std::vector<S3Operation*> watched_;
  bool look_scheduled_ = false;
  std::minstd_rand random_;

  std::atomic<std::int64_t> clock_offset_seconds_{0};
  SigningKeyCache signing_keys_;
};

}  // namespace alnair
