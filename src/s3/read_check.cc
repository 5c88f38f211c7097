#include "s3/read_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "alnair/core/error.h"
#include "core/ascii.h"
#include "s3/checksum.h"

namespace alnair {
namespace {

// "bytes 0-99/1234".
struct ContentRange {
  std::uint64_t first = 0, last = 0;
  std::optional<std::uint64_t> total;  // "*": unknown
};

std::optional<ContentRange> parse_content_range(std::string_view text) {
  ContentRange range;
  const auto number = [&](std::uint64_t& value, std::string_view after) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.starts_with(after)) return false;
    text.remove_prefix(after.size());
    return true;
  };
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  if (!number(range.first, "-") || !number(range.last, "/")) return std::nullopt;
  if (text == "*") return range;
  std::uint64_t total = 0;
  if (!number(total, "") || !text.empty()) return std::nullopt;
  range.total = total;
  return range;
}

}  // namespace

std::string_view bare_etag(std::string_view header) {
  if (is_weak_etag(header)) header.remove_prefix(2);
  if (header.size() >= 2 && header.front() == '"' && header.back() == '"')
    header = header.substr(1, header.size() - 2);
  return header;
}

std::exception_ptr ReadCheck::changed(const std::string& how) const {
  return std::make_exception_ptr(ChangedError(fmt::format(
      "{} has changed since it was registered: {}. Register the dataset again.", object_url(), how)));
}

S3Verdict ReadCheck::operator()(HttpResponse& response) {
  S3Verdict verdict = check_version(response);
  if (std::holds_alternative<Accepted>(verdict)) verdict = check_range(response);
  if (std::holds_alternative<Accepted>(verdict)) verdict = check_bytes(response);
  return verdict;
}

// Not every server honours If-Match, so the answer's own marks count.
S3Verdict ReadCheck::check_version(const HttpResponse& response) const {
  const ObjectInfo& object = request_.object;
  const std::string_view etag = bare_etag(response.headers.find("etag").value_or(""));
  if (!object.etag.empty() && !etag.empty()) {
    if (etag != bare_etag(object.etag))
      return changed(fmt::format("its ETag was {} and is {}", object.etag, etag));
    return Accepted{};
  }
  const auto modified = parse_http_date(response.headers.find("last-modified").value_or(""));
  if (modified && object.last_modified_ms != 0 && *modified != object.last_modified_ms / 1000)
    return changed("its last-modified time differs");
  return Accepted{};
}

// The answer is about an object of `size` bytes. Under the registered ETag, which check_version() has compared, that is
// damage.
S3Verdict ReadCheck::of_another_size(const HttpResponse& response, std::uint64_t size) const {
  const std::string how = fmt::format("it had {} bytes and has {}", request_.object.size, size);
  if (request_.object.etag.empty() || bare_etag(response.headers.find("etag").value_or("")).empty()) return changed(how);
  return Damaged{how + " under the same ETag"};
}

S3Verdict ReadCheck::check_range(const HttpResponse& response) const {
  const auto range_text = response.headers.find("content-range");  // rclone sends parts with status 200
  const std::uint64_t got = response.body.size();
  if (!range_text) {
    if (!whole())
      return std::make_exception_ptr(SourceError(fmt::format(
          "The server ignores Range: asked for a part of {}, it answered {} with all of it.", object_url(), response.status)));
    if (got == request_.length) return Accepted{};
    if (response.headers.find("content-length") == std::to_string(got))
      return of_another_size(response, got);
    return Damaged{fmt::format("{} bytes came instead of {}", got, request_.length)};
  }
  const auto range = parse_content_range(*range_text);
  if (!range) return Damaged{"its Content-Range is malformed"};
  if (range->total && *range->total != request_.object.size)
    return of_another_size(response, *range->total);
  if (range->first != request_.offset || range->last + 1 != request_.offset + request_.length)
    return Damaged{fmt::format("bytes {} to {} came instead of {} to {}", range->first, range->last,
                               request_.offset, request_.offset + request_.length - 1)};
  if (got != request_.length) return Damaged{fmt::format("{} bytes came instead of {}", got, request_.length)};
  return Accepted{};
}

S3Verdict ReadCheck::check_bytes(const HttpResponse& response) {
  if (!whole()) return Accepted{};
  switch (verify_checksum(response.headers, response.body.bytes())) {
    case ChecksumVerdict::kMatches:
      return Accepted{};
    case ChecksumVerdict::kDiffers:
      return Damaged{"the bytes do not match their x-amz-checksum"};
    case ChecksumVerdict::kAbsent:
      break;
  }
  const std::string_view etag = bare_etag(request_.object.etag);
  if (!looks_like_md5(etag) || !facts_->etags_are_md5.load(std::memory_order_relaxed)) return Accepted{};
  const auto md5 = md5_hex(response.body.bytes());
  if (!md5 || same_ignoring_case(*md5, etag)) return Accepted{};
  // Two identical bodies: it is the ETag that is no MD5.
  if (!doubted_.empty() && doubted_.text() == response.body.text()) {
    if (facts_->etags_are_md5.exchange(false))
      log(LogLevel::kWarning,
          "the ETag of {} is not the MD5 of its bytes (as with KMS encryption): ETags of this bucket are no "
          "longer checked",
          object_url());
    return Accepted{};
  }
  doubted_ = response.body;
  return Damaged{"the MD5 of the bytes is not their ETag"};
}

}  // namespace alnair
