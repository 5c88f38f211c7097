#include "support/fake_s3.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "s3/checksum.h"
#include "s3/sigv4.h"

namespace alnair::testing {
namespace {

std::string http_date(std::int64_t seconds) {
  return fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

std::string iso_date(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.000Z", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else
      result += c;
  }
  return result;
}

// "bytes=10-19" of `size` bytes.
std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_range(const std::string& text,
                                                                   std::uint64_t size) {
  std::uint64_t first = 0, last = 0;
  if (std::sscanf(text.c_str(), "bytes=%lu-%lu", &first, &last) != 2 || first >= size || last < first)
    return std::nullopt;
  return std::pair{first, std::min(last, size - 1)};
}

}  // namespace

std::string md5_of(const std::string& bytes) {
  return md5_hex(std::as_bytes(std::span(bytes.data(), bytes.size()))).value();
}

FakeS3::FakeS3(std::string bucket) : bucket_(std::move(bucket)) {
  server_ = std::make_unique<HttpServer>([this](const SeenRequest& request) { return answer(request); });
}

S3Options FakeS3::options() const {
  S3Options options;
  options.endpoint_url = url();
  options.region = "us-east-1";
  options.credentials = S3Credentials{"TESTKEY", "test secret", ""};
  // A busy machine must not look like a stalled server.
  options.connect_timeout = std::chrono::milliseconds(10'000);
  options.stall_timeout = std::chrono::milliseconds(10'000);
  options.request_timeout = std::chrono::milliseconds(120'000);
  return options;
}

void FakeS3::put(const std::string& key, std::string bytes) {
  Object object;
  object.etag = md5_of(bytes);
  object.bytes = std::move(bytes);
  put(key, std::move(object));
}

void FakeS3::put(const std::string& key, Object object) {
  const std::lock_guard lock(mutex_);
  objects_[key] = std::move(object);
}

void FakeS3::remove(const std::string& key) {
  const std::lock_guard lock(mutex_);
  objects_.erase(key);
}

void FakeS3::set_fault(Fault fault) {
  const std::lock_guard lock(mutex_);
  fault_ = fault ? std::make_shared<const Fault>(std::move(fault)) : nullptr;
}

int FakeS3::count(Kind kind) const {
  switch (kind) {
    case Kind::kGet:
      return gets_.load();
    case Kind::kHead:
      return heads_.load();
    case Kind::kList:
      return lists_.load();
    case Kind::kOther:
      break;
  }
  return others_.load();
}

Reply FakeS3::error(int status, const std::string& code, const std::string& message) {
  Reply reply;
  reply.status = status;
  reply.headers = {{"Content-Type", "application/xml"}};
  reply.body = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>", code,
      message);
  return reply;
}

Reply FakeS3::answer(const SeenRequest& request) {
  const int now = ++at_once_;
  for (int most = most_at_once_.load(); most < now && !most_at_once_.compare_exchange_weak(most, now);)
    continue;
  Asked asked{.request = request};
  const std::string prefix = "/" + bucket_;
  Reply reply;
  const std::string agent = request.header("user-agent");
  asked.retry = agent.find(" retry=") != std::string::npos;
  asked.hedge = agent.find(" hedge") != std::string::npos;
  asked.number = ++number_;
  if (request.path == prefix && request.method == "GET" && request.query.contains("list-type")) {
    asked.kind = Kind::kList;
    asked.key = request.query.contains("prefix") ? request.query.at("prefix") : "";
    reply = list_reply(request);
  } else if (request.path.starts_with(prefix + "/")) {
    asked.key = percent_decoded(request.path.substr(prefix.size() + 1), false);
    asked.kind = request.method == "GET" ? Kind::kGet : request.method == "HEAD" ? Kind::kHead : Kind::kOther;
    reply = object_reply(request, asked.key);
  } else {
    reply = error(404, "NoSuchBucket", "The specified bucket does not exist");
  }
  if (asked.retry) {
    ++retries_;
  } else if (asked.hedge) {
    ++hedges_;
  } else {
    ++(asked.kind == Kind::kGet    ? gets_
       : asked.kind == Kind::kHead ? heads_
       : asked.kind == Kind::kList ? lists_
                                   : others_);
  }
  std::shared_ptr<const Fault> fault;
  {
    const std::lock_guard lock(mutex_);
    fault = fault_;
    asked.number_of_key = ++asked_[{asked.kind, asked.key}];
  }
  if (fault) (*fault)(asked, reply);
  --at_once_;
  return reply;
}

Reply FakeS3::object_reply(const SeenRequest& request, const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = objects_.find(key);
  if (found == objects_.end()) return error(404, "NoSuchKey", "The specified key does not exist.");
  const Object& object = found->second;
  const std::string if_match = request.header("if-match");
  if (!if_match.empty() && if_match != "\"" + object.etag + "\"")
    return error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
  Reply reply;
  if (!object.etag.empty()) reply.headers.push_back({"ETag", "\"" + object.etag + "\""});
  reply.headers.push_back({"Last-Modified", http_date(object.last_modified_s)});
  if (object.storage_class != "STANDARD")
    reply.headers.push_back({"x-amz-storage-class", object.storage_class});
  for (const auto& header : object.headers) reply.headers.push_back(header);
  if (request.header("range").empty()) {
    reply.body = object.bytes;
    return reply;
  }
  const auto range = parse_range(request.header("range"), object.bytes.size());
  if (!range) return error(416, "InvalidRange", "The requested range is not satisfiable");
  reply.status = 206;
  reply.headers.push_back(
      {"Content-Range", fmt::format("bytes {}-{}/{}", range->first, range->second, object.bytes.size())});
  reply.body = object.bytes.substr(range->first, range->second - range->first + 1);
  return reply;
}

Reply FakeS3::list_reply(const SeenRequest& request) const {
  const auto parameter = [&](const char* name) {
    const auto found = request.query.find(name);
    return found == request.query.end() ? "" : found->second;
  };
  const std::string prefix = parameter("prefix"), delimiter = parameter("delimiter");
  const std::string after = std::max(parameter("continuation-token"), parameter("start-after"));
  std::size_t room = page_size_.load();
  if (request.query.contains("max-keys"))
    room = std::min<std::size_t>(room, std::stoul(parameter("max-keys")));
  std::string contents, last, common;
  bool truncated = false;
  const std::lock_guard lock(mutex_);
  for (auto it = objects_.upper_bound(after); it != objects_.end(); ++it) {
    const std::string& key = it->first;
    if (!key.starts_with(prefix)) continue;
    const std::size_t slash = delimiter.empty() ? std::string::npos : key.find(delimiter, prefix.size());
    const std::string name = slash == std::string::npos ? key : key.substr(0, slash + 1);
    if (slash != std::string::npos && (name == common || name == after)) continue;
    if (room == 0) {
      truncated = true;
      break;
    }
    --room;
    last = name;
    if (slash != std::string::npos) {
      common = name;
      contents += fmt::format("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                              percent_encoded(name, Slashes::kKeep));
      continue;
    }
    contents += fmt::format(
        "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>"
        "<StorageClass>{}</StorageClass></Contents>",
        percent_encoded(key, Slashes::kKeep), iso_date(it->second.last_modified_s), escaped(it->second.etag),
        it->second.bytes.size(), it->second.storage_class);
  }
  Reply reply;
  reply.headers = {{"Content-Type", "application/xml"}};
  reply.body = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name>"
      "<EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>{}{}</ListBucketResult>",
      bucket_, truncated, contents,
      truncated && tokens_.load()
          ? fmt::format("<NextContinuationToken>{}</NextContinuationToken>", escaped(last))
          : "");
  return reply;
}

}  // namespace alnair::testing
