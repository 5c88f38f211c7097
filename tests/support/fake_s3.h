// A bucket in memory behind an HttpServer: ListObjectsV2, HEAD, GET with ranges and If-Match, and whatever
// faults a test wants to put in front. Signatures are not checked (rclone and versitygw do that).
//
// Thread safety: all methods may be called from any thread at once.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "alnair/source/s3_source.h"
#include "support/http_server.h"

namespace alnair::testing {

class FakeS3 {
 public:
  struct Object {
    std::string bytes;
    std::string etag;  // without quotes; put() sets the MD5
    std::int64_t last_modified_s = 1'700'000'000;
    std::string storage_class = "STANDARD";
    std::map<std::string, std::string> headers;  // of GET and HEAD answers
  };

  // What kind of request one is; a retry or hedge says so in its User-Agent.
  enum class Kind { kGet, kHead, kList, kOther };
  struct Asked {
    Kind kind = Kind::kOther;
    std::string key = {};  // decoded
    bool retry = false;
    bool hedge = false;
    int number = 0;         // counts all requests from 1
    int number_of_key = 0;  // counts those of this kind for this key, from 1
    const SeenRequest& request;
  };
  // Called with each request and the honest reply to it, which it may change or replace.
  using Fault = std::function<void(const Asked&, Reply&)>;

  explicit FakeS3(std::string bucket = "bucket");

  const std::string& bucket() const { return bucket_; }
  std::string url() const { return server_->url(); }
  int port() const { return server_->port(); }
  int connections() const { return server_->connections(); }
  S3Options options() const;  // path style, keys of its own

  void put(const std::string& key, std::string bytes);
  void put(const std::string& key, Object object);
  void remove(const std::string& key);
  void set_fault(Fault fault);
  void set_page_size(std::size_t keys) { page_size_.store(keys); }
  void give_tokens(bool yes) { tokens_.store(yes); }  // false: pages have no NextContinuationToken

  // Requests so far, retries and hedges apart.
  int count(Kind kind) const;
  int retries() const { return retries_.load(); }
  int hedges() const { return hedges_.load(); }
  int most_at_once() const { return most_at_once_.load(); }

  // An S3 error document.
  static Reply error(int status, const std::string& code, const std::string& message = "as the test wants");

 private:
  Reply answer(const SeenRequest& request);
  Reply object_reply(const SeenRequest& request, const std::string& key) const;
  Reply list_reply(const SeenRequest& request) const;

  const std::string bucket_;
  mutable std::mutex mutex_;
  std::map<std::string, Object> objects_;              // guarded by mutex_
  std::shared_ptr<const Fault> fault_;                 // guarded by mutex_
  std::map<std::pair<Kind, std::string>, int> asked_;  // guarded by mutex_
  std::atomic<std::size_t> page_size_{1000};
  std::atomic<bool> tokens_{true};
  std::atomic<int> number_{0}, gets_{0}, heads_{0}, lists_{0}, others_{0}, retries_{0}, hedges_{0};
  std::atomic<int> at_once_{0}, most_at_once_{0};
  std::unique_ptr<HttpServer> server_;  // last: its threads use all the others
};

std::string md5_of(const std::string& bytes);

}  // namespace alnair::testing
