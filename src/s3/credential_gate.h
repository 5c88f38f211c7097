// Keeps credentials at hand for event-loop threads, which must not block: they are fetched, and fetched again
// ahead of their expiry, on a thread of the gate's own that lives as long as one fetch.
//
// Thread safety: all methods may be called from any thread at once. Not to be used in a forked child.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "alnair/source/s3_source.h"

namespace alnair {

class CredentialGate : public std::enable_shared_from_this<CredentialGate> {
 public:
  using Clock = std::chrono::system_clock;

  struct Fetched {
    S3Credentials credentials;
    Clock::time_point refresh_at = Clock::time_point::max();  // when to fetch the next ones
    Clock::time_point expires_at = Clock::time_point::max();
  };
  // Blocks; throws ConfigError (none found), AccessError, SourceError, TimeoutError. `again`: the server says
  // that the last ones have expired.
  using Fetch = std::function<Fetched(bool again)>;
  // `error` is null when credentials are at hand.
  using Ready = std::function<void(std::exception_ptr error)>;

  explicit CredentialGate(Fetch fetch) : fetch_(std::move(fetch)) {}
  explicit CredentialGate(S3Credentials fixed);

  // The latest; null until the first `ready`. They may have expired: the server will say so.
  std::shared_ptr<const S3Credentials> current() const;

  // Calls `ready` once there are credentials that have not expired, or an error: at once on this thread if
  // there are, else later on the fetching thread.
  void when_ready(Ready ready);

  // The server refuses `credentials` as expired: the next when_ready() waits for others.
  void refuse(const std::shared_ptr<const S3Credentials>& credentials);

 private:
  void start_fetching(bool again);
  void fetch(bool again);

  const Fetch fetch_;
  mutable std::mutex mutex_;
  std::shared_ptr<const S3Credentials> current_;  // all guarded by mutex_
  Clock::time_point refresh_at_{};
  Clock::time_point expires_at_{};
  bool refused_ = false;
  bool fetching_ = false;
  std::vector<Ready> waiting_;
};

}  // namespace alnair
