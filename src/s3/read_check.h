// Judges the answers to one ranged read: is it the registered version, all of it, undamaged?
//
// Thread safety: BucketFacts is shared by all reads; a ReadCheck is called by one thread at a time.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "alnair/source/object_source.h"
#include "core/log.h"
#include "s3/s3_operation.h"

namespace alnair {

// What reads know of a bucket.
struct BucketFacts {
  explicit BucketFacts(std::string the_url) : url(std::move(the_url)) {}
  const std::string url;  // "s3://bucket/", for messages
  std::atomic<bool> etags_are_md5{true};  // until proved otherwise (KMS encryption)
};

class ReadCheck {
 public:
  ReadCheck(ReadRequest request, std::shared_ptr<BucketFacts> facts) : request_(std::move(request)), facts_(std::move(facts)) {}

  const ReadRequest& request() const { return request_; }

  // Whether the read takes the whole object: only then do checksums apply, and no Range is sent.
  bool whole() const { return request_.offset == 0 && request_.length == request_.object.size; }

  S3Verdict operator()(HttpResponse& response);

 private:
  S3Verdict check_version(const HttpResponse& response) const;
  S3Verdict of_another_size(const HttpResponse& response, std::uint64_t size) const;
  S3Verdict check_range(const HttpResponse& response) const;
  S3Verdict check_bytes(const HttpResponse& response);
  std::exception_ptr changed(const std::string& how) const;
  std::string object_url() const { return facts_->url + request_.object.key; }

  const ReadRequest request_;
  const std::shared_ptr<BucketFacts> facts_;
  View doubted_;  // an earlier body whose MD5 is not the ETag
};

// An ETag header without its quotes and weakness mark.
std::string_view bare_etag(std::string_view header);

// W/"...", in a header or as an object's ETag.
inline bool is_weak_etag(std::string_view etag) { return etag.starts_with("W/"); }

}  // namespace alnair
