// One logical request to S3 with all its attempts: signing, retries, redirects to another region, and a
// hedge.
//
// Thread safety: all public methods may be called from any thread at once.
#pragma once

#include <array>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "alnair/source/object_source.h"
#include "http/client.h"
#include "s3/s3_answer.h"
#include "s3/s3_core.h"

namespace alnair {

// What a 2xx answer is worth, as S3Call::check finds it.
struct Accepted {};
struct Damaged {
  std::string why;  // "its CRC32C differs": fetch again
};
using S3Verdict = std::variant<Accepted, Damaged, std::exception_ptr>;

struct S3Call {
  S3Asked::What what = S3Asked::What::kList;
  std::string key;                     // raw; empty for the bucket itself
  std::string query;                   // as canonical_query returns it
  HttpHeaders headers;                 // sent as they are, unsigned
  std::vector<Header> signed_headers;  // x-amz-*
  std::uint64_t expected_bytes = 0;
  std::uint64_t max_body_bytes = 64ull << 20;
  bool may_hedge = false;

  // Judges a 2xx answer, on an event-loop thread; one call at a time.
  std::function<S3Verdict(HttpResponse&)> check;
  // Runs exactly once: an accepted answer, or an error.
  std::function<void(HttpResponse&&, std::exception_ptr)> done;
};

class S3Operation final : public PendingRead, public std::enable_shared_from_this<S3Operation> {
 public:
  static constexpr std::size_t kNotWatched = static_cast<std::size_t>(-1);

  static std::shared_ptr<S3Operation> start(std::shared_ptr<S3Core> core, S3Call call);
  // Use start().
  S3Operation(std::shared_ptr<S3Core> core, S3Call call);

  ~S3Operation() override;
  void cancel() override;

  // Whether its one attempt was sent, and no byte has come since `then`.
  bool silent_since(S3Core::Clock::time_point then);
  void hedge();

  std::size_t watch_index = kNotWatched;  // for the core, under its mutex

 private:
  enum class Kind { kFirst, kRetry, kHedge };
  struct Attempt {
    std::shared_ptr<HttpTransfer> transfer;  // may still be null when `live`
    std::uint64_t serial = 0;
    bool live = false;
  };

  Attempt& attempt_of(Kind kind) { return attempts_[kind == Kind::kHedge ? 1 : 0]; }
  void send_when_ready(Kind kind);
  void send(Kind kind);
  void prepare(HttpRequest& request, Kind kind);
  void on_response(HttpResponse&& response, Kind kind);
  void on_accepted(HttpResponse&& response, Kind kind);
  bool may_detour();
  void retry(RetryReason reason, std::exception_ptr error, std::chrono::milliseconds at_least);
  void send_within_budget(RetryReason reason, std::exception_ptr error);
  std::chrono::milliseconds time_left();
  std::exception_ptr error_from(const HttpResponse& response, const S3Answer& answer);
  void finish(HttpResponse&& response, std::exception_ptr error);

  const std::shared_ptr<S3Core> core_;
  S3Call call_;
  const std::uint64_t generation_;

  std::mutex check_mutex_;  // for call_.check
  std::mutex mutex_;
  std::array<Attempt, 2> attempts_;  // guarded by mutex_: the current one, and its hedge
  std::uint64_t last_serial_ = 0;    // guarded by mutex_
  bool ended_ = false;               // guarded by mutex_
  int retries_ = 0;                  // guarded by mutex_
  int detours_ = 0;                  // guarded by mutex_: sent again for another region, clock or token
  S3Core::Clock::time_point first_sent_{};       // guarded by mutex_
  std::shared_ptr<const S3Core::Place> place_;   // guarded by mutex_: where the latest attempt went
  std::shared_ptr<const S3Credentials> signer_;  // guarded by mutex_
};

}  // namespace alnair
