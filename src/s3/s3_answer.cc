#include "s3/s3_answer.h"

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "s3/s3_config.h"

namespace alnair {
namespace {

S3Next next_after(HttpFailure failure) {
  switch (failure) {
    case HttpFailure::kResolve:
    case HttpFailure::kConnect:
    case HttpFailure::kBroken:
    case HttpFailure::kTls:
      return S3Next::kRetry;
    case HttpFailure::kStalled:
    case HttpFailure::kConnectTimeout:
      return S3Next::kRetryTimeout;
    case HttpFailure::kNone:
    case HttpFailure::kCancelled:
    case HttpFailure::kTimeout:  // the time for all attempts is spent
    case HttpFailure::kTlsCertificate:
    case HttpFailure::kCaBundle:
    case HttpFailure::kTooLarge:
    case HttpFailure::kOther:
      break;
  }
  return S3Next::kFail;
}

bool is_throttle(int status, std::string_view code) {
  return status == 429 || code == "SlowDown" || code == "ThrottlingException" || code == "Throttling" ||
         code == "RequestLimitExceeded" || code == "TooManyRequests" ||
         (status == 503 && code != "InternalError");
}

bool is_expired_token(std::string_view code) {
  return code == "ExpiredToken" || code == "ExpiredTokenException" || code == "TokenRefreshRequired";
}

// "https://host:port" of a redirect's target.
std::string origin_of(std::string_view url) {
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos || (!url.starts_with("http://") && !url.starts_with("https://")))
    return {};
  const std::string_view origin = url.substr(0, url.find_first_of("/?#", scheme + 3));
  return origin.find('@') == std::string_view::npos ? std::string(origin) : std::string();
}

// Text from a server, made fit for one line of a message.
std::string shown(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 200))
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  while (!result.empty() && (result.back() == '.' || result.back() == ' ')) result.pop_back();
  return result;
}

std::string answered(const HttpResponse& response, const S3Answer& answer, const S3Asked& asked) {
  std::string text = fmt::format("{} answered {}", asked.endpoint, response.status);
  if (!answer.error.code.empty()) text += " " + shown(answer.error.code);
  if (!answer.error.message.empty()) text += ": " + shown(answer.error.message);
  if (asked.attempts > 1) text += fmt::format("; tried {} times", asked.attempts);
  return text;
}

std::string subject(const S3Asked& asked) {
  return asked.key.empty() ? fmt::format("bucket '{}'", asked.bucket)
                           : fmt::format("s3://{}/{}", asked.bucket, asked.key);
}

std::string tried(const S3Asked& asked) {
  return asked.attempts > 1 ? fmt::format(" Tried {} times.", asked.attempts) : "";
}

template <typename E, typename... Args>
std::exception_ptr make(fmt::format_string<Args...> format, Args&&... args) {
  return std::make_exception_ptr(E(fmt::format(format, std::forward<Args>(args)...)));
}

std::exception_ptr transfer_error(const HttpResponse& response, const S3Asked& asked) {
  const std::string why = shown(response.failure_text);
  switch (response.failure) {
    case HttpFailure::kCancelled:
      return make<CancelledError>("The request for {} was cancelled.", subject(asked));
    case HttpFailure::kResolve:
      return make<SourceError>(
          "Cannot reach {} for {}: the host name is unknown ({}). Check endpoint_url, the region and the "
          "network.{}",
          asked.endpoint, subject(asked), why, tried(asked));
    case HttpFailure::kConnect:
      return make<SourceError>(
          "Cannot reach {} for {}: nothing answers there ({}). Check the host and port in endpoint_url, and "
          "proxies.{}",
          asked.endpoint, subject(asked), why, tried(asked));
    case HttpFailure::kConnectTimeout:
      return make<TimeoutError>(
          "Cannot reach {} for {}: no connection in time ({}). Check the host and port in endpoint_url, and "
          "the network.{}",
          asked.endpoint, subject(asked), why, tried(asked));
    case HttpFailure::kTls:
      return make<SourceError>(
          "Cannot speak TLS with {} for {} ({}). If the server speaks plain HTTP, endpoint_url must begin "
          "with http://.{}",
          asked.endpoint, subject(asked), why, tried(asked));
    case HttpFailure::kTlsCertificate:
      return make<ConfigError>(
          "The TLS certificate of {} is not trusted ({}). Set ca_bundle, or AWS_CA_BUNDLE, to a PEM file of "
          "the authority that signed it.",
          asked.endpoint, why);
    case HttpFailure::kCaBundle:
      return make<ConfigError>(
          "The certificates to trust for {} cannot be used ({}). Set ca_bundle, or AWS_CA_BUNDLE, to a readable PEM file.",
          asked.endpoint, why);
    case HttpFailure::kTimeout:
      return make<TimeoutError>("{} did not answer the request for {} within request_timeout.{}",
                                asked.endpoint, subject(asked), tried(asked));
    case HttpFailure::kStalled:
      return make<TimeoutError>("{} sent nothing of {} for longer than stall_timeout.{}", asked.endpoint,
                                subject(asked), tried(asked));
    case HttpFailure::kTooLarge:
      return make<SourceError>("{} sent more of {} than was asked for (status {}): it may ignore Range.",
                               asked.endpoint, subject(asked), response.status);
    case HttpFailure::kNone:
    case HttpFailure::kBroken:
    case HttpFailure::kOther:
      break;
  }
  // So does a server that waits for TLS.
  const bool silent = response.status == 0 && asked.endpoint.starts_with("http://") && why.starts_with("Empty reply");
  return make<SourceError>("The transfer of {} from {} failed: {}.{}{}", subject(asked), asked.endpoint, why,
                           silent ? " If the server speaks TLS, endpoint_url must begin with https://." : "", tried(asked));
}

std::exception_ptr refused(const std::string& answer, const S3Answer& what, const S3Asked& asked) {
  const std::string_view code = what.error.code;
  if (code == "InvalidAccessKeyId" || code == "InvalidClientTokenId" || code == "XAdminUserNotFound")
    return make<AccessError>(
        "The access key id '{}' is unknown to the server of {} ({}). Check AWS_ACCESS_KEY_ID or the profile.",
        asked.access_key_id, subject(asked), answer);
  if (code == "SignatureDoesNotMatch")
    return make<AccessError>(
        "The secret access key does not fit access key id '{}': the request for {} was refused ({}). Check "
        "AWS_SECRET_ACCESS_KEY or the profile.",
        asked.access_key_id, subject(asked), answer);
  if (is_expired_token(code) || code == "InvalidToken")
    return make<AccessError>(
        "The session token for access key id '{}' is not valid, or no longer ({}). Renew the credentials.",
        asked.access_key_id, answer);
  if (code == "RequestTimeTooSkewed")
    return make<AccessError>(
        "This machine's clock is wrong: the request for {} was refused ({}). Set the clock.", subject(asked),
        answer);
  if (code == "InvalidObjectState")
    return make<AccessError>("{} is archived: restore it before it can be read ({}).", subject(asked),
                             answer);
  const std::string_view right = asked.what == S3Asked::What::kList ? "s3:ListBucket" : "s3:GetObject";
  if (asked.access_key_id.empty())
    return make<AccessError>(
        "Access to {} was refused without credentials ({}). Give credentials, or do not set anonymous.",
        subject(asked), answer);
  return make<AccessError>("Access to {} was refused ({}). Access key id '{}' needs the right {} there.",
                           subject(asked), answer, asked.access_key_id, right);
}

}  // namespace

S3Answer interpret(const HttpResponse& response) {
  S3Answer answer;
  if (response.failure != HttpFailure::kNone) {
    answer.next = next_after(response.failure);
    return answer;
  }
  const int status = response.status;
  if (status >= 200 && status < 300) {
    answer.next = S3Next::kAccept;
    return answer;
  }
  if (auto error = parse_error_body(response.body.text())) answer.error = std::move(*error);
  const std::string_view code = answer.error.code;
  const auto header_region = response.headers.find("x-amz-bucket-region");
  answer.region = header_region ? std::string(*header_region) : answer.error.region;
  if (!is_region(answer.region)) answer.region.clear();
  // A 301 that names the region is S3's own; without one it is a server or proxy that has moved.
  if (status == 307 || status == 308 || status == 302 || (status == 301 && answer.region.empty())) {
    answer.next = S3Next::kOtherRegion;
    answer.location = origin_of(response.headers.find("location").value_or(""));
  } else if (status == 301 || code == "AuthorizationHeaderMalformed" || code == "PermanentRedirect" ||
             code == "IllegalLocationConstraintException" || (status == 400 && header_region)) {
    answer.next = S3Next::kOtherRegion;
  } else if (code == "RequestTimeTooSkewed") {
    answer.next = S3Next::kOtherTime;
  } else if (is_expired_token(code)) {
    answer.next = S3Next::kNewCredentials;
  } else if (is_throttle(status, code)) {
    answer.next = S3Next::kRetryThrottled;
  } else if (status == 408 || code == "RequestTimeout") {
    answer.next = S3Next::kRetryTimeout;
  } else if (status >= 500 && status != 501) {
    answer.next = S3Next::kRetry;
  }
  return answer;
}

std::exception_ptr error_of(const HttpResponse& response, const S3Answer& answer, const S3Asked& asked) {
  if (response.failure != HttpFailure::kNone) return transfer_error(response, asked);
  const std::string text = answered(response, answer, asked);
  const std::string_view code = answer.error.code;
  if (code == "NoSuchBucket")
    return make<NotFoundError>("Bucket '{}' does not exist ({}). Check its name and endpoint_url.",
                               asked.bucket, text);
  if (code == "InvalidBucketName")
    return make<ConfigError>("'{}' is no bucket's name there ({}). Check source and endpoint_url.", asked.bucket, text);
  if (answer.next == S3Next::kOtherRegion && !answer.location.empty())
    return make<ConfigError>(
        "The request for {} was redirected to {}, which leads in a circle or away from TLS ({}). Check endpoint_url "
        "and region.",
        subject(asked), shown(answer.location), text);
  if (answer.next == S3Next::kOtherRegion)
    return make<ConfigError>(
        "Bucket '{}' is not in region '{}', and the server does not say where it is ({}). Set region.",
        asked.bucket, asked.region, text);
  if (asked.what == S3Asked::What::kStat && response.status == 400)  // HEAD has no body that would say why
    return make<ConfigError>("The request for {} was refused ({}). Check region and credentials.",
                             subject(asked), text);
  const bool unknown_user = code == "XAdminUserNotFound";  // versitygw's, with status 404
  if (response.status == 401 || response.status == 403 || unknown_user || is_expired_token(code))
    return refused(text, answer, asked);
  if (asked.what == S3Asked::What::kRead) {
    if (response.status == 404)
      return make<ChangedError>("{} was deleted after it was registered ({}). Register the dataset again.",
                                subject(asked), text);
    if (response.status == 412 || response.status == 416)
      return make<ChangedError>("{} has changed since it was registered ({}). Register the dataset again.",
                                subject(asked), text);
  }
  if (response.status == 404)
    return make<NotFoundError>("{} was not found ({}). Check the name and endpoint_url.", subject(asked),
                               text);
  if (answer.next == S3Next::kRetryThrottled)
    return make<SourceError>(
        "The server is overloaded: it refused the request for {} ({}). Try again later, or lower "
        "max_requests.",
        subject(asked), text);
  if (answer.next == S3Next::kRetryTimeout)
    return make<TimeoutError>("The request for {} timed out ({}).", subject(asked), text);
  return make<SourceError>("The request for {} failed ({}).", subject(asked), text);
}

}  // namespace alnair
