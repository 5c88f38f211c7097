// What an answer of S3 means: what to do next, and the error to report if that is the end of it. Pure;
// thread-safe.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "http/client.h"
#include "s3/xml.h"

namespace alnair {

enum class S3Next {
  kAccept,          // 2xx
  kRetry,           // broken connection, 5xx: see RetryReason::kTransient
  kRetryTimeout,    // RetryReason::kTimeout
  kRetryThrottled,  // RetryReason::kThrottled
  kOtherRegion,     // sign for S3Answer::region, or go to S3Answer::location, and send again
  kOtherTime,       // the clock is wrong: take the time from the answer's Date, and send again
  kNewCredentials,  // the token has expired: fetch credentials, and send again
  kFail,
};

struct S3Answer {
  S3Next next = S3Next::kFail;
  S3ErrorBody error;     // of an error answer; empty when S3 did not say (HEAD)
  std::string region;    // kOtherRegion; may be empty: S3 did not say
  std::string location;  // kOtherRegion, from a redirect: "https://host" to ask instead
};

S3Answer interpret(const HttpResponse& response);

// What was asked, for messages.
struct S3Asked {
  enum class What { kList, kStat, kRead } what = What::kList;
  std::string bucket;
  std::string key;            // empty for kList
  std::string endpoint;       // URL without secrets
  std::string region;         // signed for
  std::string access_key_id;  // empty: anonymous
  int attempts = 1;
};

// The error that an answer other than kAccept amounts to when it is not tried again.
std::exception_ptr error_of(const HttpResponse& response, const S3Answer& answer, const S3Asked& asked);

}  // namespace alnair
