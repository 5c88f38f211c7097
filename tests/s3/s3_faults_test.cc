// The S3 source against a server that misbehaves: every sample is right, or the error says what is wrong.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "alnair/core/error.h"
#include "core/metrics.h"
#include "support/fake_s3.h"
#include "support/s3_reads.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using testing::FakeS3;
using ::testing::HasSubstr;
using testing::random_bytes;
using testing::read_all;
using testing::read_range;
using testing::Reply;

class S3Faults : public ::testing::Test {
 protected:
  S3Faults() : bytes_(random_bytes(50'000)) {
    s3_.put("dir/k", bytes_);
    object_.key = "dir/k";
    object_.size = bytes_.size();
    object_.etag = testing::md5_of(bytes_);
    object_.last_modified_ms = 1'700'000'000'000;
  }

  std::shared_ptr<ObjectSource> open() { return open_s3_source("bucket", s3_.options()); }
  std::string read() { return read_all(*open(), object_); }

  // The first `times` GETs get `fault`.
  void fail_first(int times, std::function<void(Reply&)> fault) {
    s3_.set_fault([times, fault](const FakeS3::Asked& asked, Reply& reply) {
      if (asked.kind == FakeS3::Kind::kGet && asked.number_of_key <= times) fault(reply);
    });
  }

  // What an operation fails with.
  template <typename E>
  static std::string message_of(const std::function<void()>& operation) {
    try {
      operation();
    } catch (const E& error) {
      return error.what();
    } catch (const std::exception& error) {
      return std::string("another kind of error: ") + error.what();
    }
    return "no error";
  }

  FakeS3 s3_;
  const std::string bytes_;
  ObjectInfo object_;
};

TEST_F(S3Faults, RetriesServerErrors) {
  for (const int status : {500, 502, 503, 504, 429, 408}) {
    FakeS3 s3;
    s3.put("dir/k", bytes_);
    s3.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
      if (asked.number == 1) reply = FakeS3::error(status, "Trouble");
    });
    EXPECT_EQ(read_all(*open_s3_source("bucket", s3.options()), object_), bytes_) << status;
    EXPECT_EQ(s3.count(FakeS3::Kind::kGet), 1);
    EXPECT_EQ(s3.retries(), 1);
  }
}

TEST_F(S3Faults, SurvivesAStormOfSlowDown) {
  std::atomic<int> refused{0};
  s3_.set_fault([&](const FakeS3::Asked&, Reply& reply) {
    if (refused.fetch_add(1) < 40) reply = FakeS3::error(503, "SlowDown", "Please reduce your request rate.");
  });
  S3Options options = s3_.options();
  options.max_attempts = 10;
  const auto source = open_s3_source("bucket", options);
  std::vector<std::future<std::string>> reads;
  for (std::uint64_t i = 0; i < 100; ++i)
    reads.push_back(testing::start_read(*source, {object_, i * 10, 100}));
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(reads[i].get(), bytes_.substr(i * 10, 100));
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), 100);
}

TEST_F(S3Faults, GivesUpAfterMaxAttemptsAndSaysSo) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) {
    reply = FakeS3::error(500, "InternalError", "We made a mistake.");
  });
  S3Options options = s3_.options();
  options.max_attempts = 3;
  const auto source = open_s3_source("bucket", options);
  EXPECT_THAT(message_of<SourceError>([&] { read_all(*source, object_); }),
              AllOf(HasSubstr("s3://bucket/dir/k"), HasSubstr(s3_.url()),
                    HasSubstr("500 InternalError: We made a mistake"), HasSubstr("3 times")));
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), 1);
  EXPECT_EQ(s3_.retries(), 2);
}

TEST_F(S3Faults, HeedsRetryAfter) {
  fail_first(1, [](Reply& reply) {
    reply = FakeS3::error(503, "SlowDown");
    reply.headers.push_back({"Retry-After", "1"});
  });
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(read(), bytes_);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(1000));
}

TEST_F(S3Faults, SurvivesResets) {
  fail_first(2, [](Reply& reply) { reply.reset = true; });
  EXPECT_EQ(read(), bytes_);
}

TEST_F(S3Faults, SurvivesBodiesCutShort) {
  fail_first(2, [](Reply& reply) { reply.cut_after = 20'000; });
  EXPECT_EQ(read(), bytes_);
}

TEST_F(S3Faults, SurvivesStallsAtAnyPoint) {
  S3Options options = s3_.options();
  options.stall_timeout = milliseconds(500);
  fail_first(1, [](Reply& reply) { reply.stall_after = 0; });
  EXPECT_EQ(read_all(*open_s3_source("bucket", options), object_), bytes_);
  fail_first(2, [](Reply& reply) { reply.stall_after = 49'999; });
  EXPECT_EQ(read_all(*open_s3_source("bucket", options), object_), bytes_);
}

TEST_F(S3Faults, SaysThatAServerStalls) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply.stall_after = 10; });
  S3Options options = s3_.options();
  options.stall_timeout = milliseconds(150);
  options.max_attempts = 2;
  options.hedging = false;
  const auto source = open_s3_source("bucket", options);
  EXPECT_THAT(message_of<TimeoutError>([&] { read_all(*source, object_); }),
              AllOf(HasSubstr("s3://bucket/dir/k"), HasSubstr("stall_timeout")));
}

TEST_F(S3Faults, KeepsToTheRequestTimeout) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply.stall_after = 10; });
  S3Options options = s3_.options();
  options.stall_timeout = milliseconds(10'000);
  options.request_timeout = milliseconds(300);
  const auto source = open_s3_source("bucket", options);
  EXPECT_THAT(message_of<TimeoutError>([&] { read_all(*source, object_); }), HasSubstr("request_timeout"));
}

TEST_F(S3Faults, FetchesDamagedBytesAgain) {
  const auto mismatches = metrics().value(Counter::kS3Mismatches);
  fail_first(1, [](Reply& reply) { reply.body[100] ^= 1; });
  EXPECT_EQ(read(), bytes_);
  EXPECT_EQ(metrics().value(Counter::kS3Mismatches), mismatches + 1);
}

TEST_F(S3Faults, FetchesAgainWhatHasAnotherLengthUnderTheSameETag) {
  for (const std::size_t length : {std::size_t{0}, bytes_.size() - 1, bytes_.size() + 1}) {
    s3_.put("dir/k", {.bytes = bytes_, .etag = "no-md5-1", .headers = {}});
    object_.etag = "no-md5-1";
    const int retries = s3_.retries();
    std::atomic<bool> first{true};
    s3_.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
      if (asked.kind == FakeS3::Kind::kGet && first.exchange(false)) reply.body.resize(length, 'x');
    });
    EXPECT_EQ(read(), bytes_);
    EXPECT_EQ(s3_.retries(), retries + 1) << length;
  }
}

TEST_F(S3Faults, StopsToTakeETagsForMd5WhenTwoBodiesAgree) {
  const std::string etag = "0123456789abcdef0123456789abcdef";  // as with KMS
  s3_.put("k1", {.bytes = "one", .etag = etag, .headers = {}});
  s3_.put("k2", {.bytes = "two", .etag = etag, .headers = {}});
  const auto source = open();
  for (const char* key : {"k1", "k2", "k1"})
    EXPECT_EQ(read_all(*source, source->stat(key, {}).value()).size(), 3u);
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), 3);
  EXPECT_EQ(s3_.retries(), 1);
}

TEST_F(S3Faults, ChecksS3sOwnChecksums) {
  FakeS3::Object object{.bytes = "123456789",
                        .etag = "not-an-md5-1",
                        .headers = {{"x-amz-checksum-crc64nvme", "rosUhgp5mIg="}}};
  s3_.put("good", object);
  object.headers = {{"x-amz-checksum-crc32c", "AAAAAA=="}};
  s3_.put("bad", object);
  object.headers = {
      {"x-amz-checksum-sha256", "AAAA-3"}};  // of a multipart upload: says nothing about the whole
  s3_.put("parts", object);
  S3Options options = s3_.options();
  options.max_attempts = 2;
  const auto source = open_s3_source("bucket", options);
  EXPECT_EQ(read_all(*source, source->stat("good", {}).value()), "123456789");
  EXPECT_EQ(read_all(*source, source->stat("parts", {}).value()), "123456789");
  const ObjectInfo bad = source->stat("bad", {}).value();
  EXPECT_THAT(message_of<SourceError>([&] { read_all(*source, bad); }),
              AllOf(HasSubstr("s3://bucket/bad"), HasSubstr("checksum")));
  EXPECT_EQ(read_range(*source, bad, 1, 3), "234");  // a part cannot be checked
}

TEST_F(S3Faults, RefusesAnotherVersionWhateverTheServerDoesWithIfMatch) {
  const auto source = open();
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) {  // as rclone does
    reply.status = 200;
    reply.headers = {{"ETag", "\"ffffffffffffffffffffffffffffffff\""}};
    reply.body = std::string(50'000, 'x');
  });
  EXPECT_THAT(message_of<ChangedError>([&] { read_all(*source, object_); }),
              AllOf(HasSubstr("s3://bucket/dir/k"), HasSubstr("ETag")));
  s3_.set_fault({});
  s3_.put("dir/k", "overwritten");
  EXPECT_THAT(message_of<ChangedError>([&] { read_all(*source, object_); }), HasSubstr("s3://bucket/dir/k"));
  EXPECT_EQ(s3_.retries(), 0);
}

TEST_F(S3Faults, IdentifiesVersionsBySizeAndTimeWhereThereIsNoETag) {
  s3_.put("k", {.bytes = "first", .etag = "", .last_modified_s = 1'600'000'000, .headers = {}});
  const auto source = open();
  const ObjectInfo object = source->stat("k", {}).value();
  EXPECT_EQ(object.etag, "");
  EXPECT_EQ(read_all(*source, object), "first");
  s3_.put("k", {.bytes = "other", .etag = "", .last_modified_s = 1'600'000'001, .headers = {}});
  EXPECT_THAT(message_of<ChangedError>([&] { read_all(*source, object); }), HasSubstr("last-modified"));
  s3_.put("k", {.bytes = "longer", .etag = "", .last_modified_s = 1'600'000'000, .headers = {}});
  EXPECT_THAT(message_of<ChangedError>([&] { read_all(*source, object); }), HasSubstr("5 bytes and has 6"));
  EXPECT_THAT(message_of<ChangedError>([&] { read_range(*source, object, 1, 2); }),
              HasSubstr("5 bytes and has 6"));
}

TEST_F(S3Faults, SaysThatAnObjectWasDeleted) {
  s3_.remove("dir/k");
  EXPECT_THAT(message_of<ChangedError>([&] { read(); }),
              AllOf(HasSubstr("s3://bucket/dir/k"), HasSubstr("deleted")));
}

TEST_F(S3Faults, SaysThatABucketDoesNotExist) {
  const auto source = open_s3_source("missing", s3_.options());
  const auto expected =
      AllOf(HasSubstr("'missing' does not exist"), HasSubstr(s3_.url()), HasSubstr("NoSuchBucket"));
  EXPECT_THAT(message_of<NotFoundError>([&] { testing::list_all(*source, {""}); }), expected);
  EXPECT_THAT(message_of<NotFoundError>([&] { source->stat("k", {}); }), expected);
  EXPECT_THAT(message_of<NotFoundError>([&] { read_all(*source, object_); }), expected);
}

TEST_F(S3Faults, SaysThatNoBucketMayHaveThatName) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply = FakeS3::error(400, "InvalidBucketName"); });
  EXPECT_THAT(message_of<ConfigError>([&] { testing::list_all(*open(), {""}); }), HasSubstr("'bucket' is no bucket's name"));
}

struct Refusal {
  int status;
  const char* code;
  const char* says;
};

class S3Refusals : public S3Faults, public ::testing::WithParamInterface<Refusal> {};

TEST_P(S3Refusals, AreExplained) {
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    reply = FakeS3::error(GetParam().status, GetParam().code, "why");
    if (asked.kind == FakeS3::Kind::kHead) reply.body.clear();
  });
  const auto source = open();
  const auto expected = AllOf(HasSubstr(GetParam().says), HasSubstr(s3_.url()), HasSubstr(GetParam().code),
                              HasSubstr("why"), ::testing::Not(HasSubstr("test secret")));
  EXPECT_THAT(message_of<AccessError>([&] { read_all(*source, object_); }), expected);
  EXPECT_THAT(message_of<AccessError>([&] { testing::list_all(*source, {""}); }), expected);
  EXPECT_THAT(message_of<AccessError>([&] { source->stat("dir/k", {}); }), expected);
}

INSTANTIATE_TEST_SUITE_P(
    S3, S3Refusals,
    ::testing::Values(Refusal{403, "InvalidAccessKeyId", "access key id 'TESTKEY' is unknown"},
                      Refusal{403, "SignatureDoesNotMatch", "secret access key does not fit"},
                      Refusal{403, "AccessDenied", "Access to "},
                      Refusal{400, "ExpiredToken", "session token"},
                      Refusal{403, "InvalidObjectState", "archived"},
                      Refusal{403, "RequestTimeTooSkewed", "clock"}),
    [](const auto& refusal) { return std::string(refusal.param.code); });

TEST_F(S3Faults, NamesTheOneObjectThatIsForbidden) {
  s3_.put("other", "fine");
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    if (asked.key == "dir/k") reply = FakeS3::error(403, "AccessDenied", "Access Denied");
  });
  const auto source = open();
  EXPECT_THAT(message_of<AccessError>([&] { read_all(*source, object_); }),
              AllOf(HasSubstr("s3://bucket/dir/k"), HasSubstr("s3:GetObject"), HasSubstr("'TESTKEY'")));
  EXPECT_EQ(read_all(*source, source->stat("other", {}).value()), "fine");
}

TEST_F(S3Faults, FindsTheRegionOutAndRemembersIt) {
  for (const bool redirect : {true, false}) {
    FakeS3 s3;
    s3.put("dir/k", bytes_);
    std::atomic<int> wrong{0};
    s3.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
      if (asked.request.header("authorization").find("/eu-south-2/") != std::string::npos) return;
      ++wrong;
      if (redirect) {
        reply = FakeS3::error(301, "PermanentRedirect");
        reply.headers.push_back({"x-amz-bucket-region", "eu-south-2"});
      } else {
        reply = FakeS3::error(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong");
        reply.body.replace(reply.body.find("</Error>"), 8, "<Region>eu-south-2</Region></Error>");
      }
      if (asked.kind == FakeS3::Kind::kHead) reply.body.clear();
    });
    const auto source = open_s3_source("bucket", s3.options());
    for (int i = 0; i < 5; ++i) EXPECT_EQ(read_all(*source, object_), bytes_);
    EXPECT_TRUE(source->stat("dir/k", {}));
    EXPECT_EQ(wrong, 1);
    EXPECT_TRUE(open_s3_source("bucket", s3.options())->stat("dir/k", {}))
        << "the body of a refused HEAD names no region";
  }
}

TEST_F(S3Faults, SaysThatTheRegionIsWrongWhenTheServerDoesNotNameIt) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply = FakeS3::error(301, "PermanentRedirect"); });
  EXPECT_THAT(message_of<ConfigError>([&] { read(); }),
              AllOf(HasSubstr("not in region 'us-east-1'"), HasSubstr(s3_.url())));
}

TEST_F(S3Faults, FollowsATemporaryRedirectWithASignatureForTheOtherHost) {
  FakeS3 elsewhere;
  elsewhere.put("dir/k", bytes_);
  s3_.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
    reply = FakeS3::error(307, "TemporaryRedirect");
    reply.headers.push_back({"Location", elsewhere.url() + asked.request.target});
  });
  EXPECT_EQ(read(), bytes_);
  EXPECT_EQ(elsewhere.retries(), 1);
}

TEST_F(S3Faults, FollowsAServerThatHasMovedForGood) {
  FakeS3 elsewhere;
  elsewhere.put("dir/k", bytes_);
  s3_.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
    reply = {.status = 301, .headers = {{"Location", elsewhere.url() + asked.request.target}}, .body = ""};
  });
  const auto source = open();
  EXPECT_EQ(read_all(*source, object_), bytes_);
  EXPECT_EQ(read_all(*source, object_), bytes_);
  EXPECT_EQ(elsewhere.retries(), 1) << "the second read knows where";
}

TEST_F(S3Faults, SaysWhereARedirectLeadsThatIsNotFollowed) {
  s3_.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
    reply = {.status = 307, .headers = {{"Location", s3_.url() + asked.request.target}}, .body = ""};
  });
  EXPECT_THAT(message_of<ConfigError>([&] { read(); }),
              AllOf(HasSubstr("was redirected to " + s3_.url()), HasSubstr("Check endpoint_url")));
}

TEST_F(S3Faults, TakesNoRegionThatCannotBeOne) {
  s3_.set_fault([&](const FakeS3::Asked&, Reply& reply) {
    reply = FakeS3::error(400, "AuthorizationHeaderMalformed");
    reply.body.replace(reply.body.find("</Error>"), 8, "<Region>x.example/?&#10;X: y</Region></Error>");
  });
  EXPECT_THAT(message_of<ConfigError>([&] { read(); }), HasSubstr("not in region 'us-east-1'"));
}

TEST_F(S3Faults, EndsALoopOfRedirects) {
  s3_.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {
    reply = FakeS3::error(301, "PermanentRedirect");
    reply.headers.push_back({"x-amz-bucket-region", asked.number % 2 == 0 ? "eu-west-1" : "eu-west-2"});
  });
  EXPECT_THAT(message_of<ConfigError>([&] { read(); }), HasSubstr("region"));
}

TEST_F(S3Faults, CorrectsAClockThatIsWrong) {
  std::atomic<int> refused{0};
  s3_.set_fault([&](const FakeS3::Asked& asked, Reply& reply) {  // the server lives on 1 January 2031
    if (asked.request.header("x-amz-date").starts_with("20310101T12")) return;
    ++refused;
    reply = FakeS3::error(403, "RequestTimeTooSkewed");
    reply.headers.push_back({"Date", "Wed, 01 Jan 2031 12:00:30 GMT"});
  });
  const auto source = open();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(read_all(*source, object_), bytes_);
  EXPECT_EQ(refused, 1);
}

// A refused HEAD says neither that the clock is wrong nor what the region is.
TEST_F(S3Faults, AHeadIsAskedAgainWhenTheBucketHasSaidWhatWasWrong) {
  for (const bool clock : {true, false}) {
    s3_.set_fault([clock](const FakeS3::Asked& asked, Reply& reply) {
      if (clock && asked.request.header("x-amz-date").starts_with("20310101T12")) return;
      if (!clock && asked.request.header("authorization").find("/eu-south-2/") != std::string::npos) return;
      reply = FakeS3::error(clock ? 403 : 400, clock ? "RequestTimeTooSkewed" : "AuthorizationHeaderMalformed");
      reply.body.replace(reply.body.find("</Error>"), 8, "<Region>eu-south-2</Region></Error>");
      reply.headers.push_back({"Date", "Wed, 01 Jan 2031 12:00:30 GMT"});
      if (asked.kind == FakeS3::Kind::kHead) reply.body.clear();
    });
    const auto found = open()->stat("dir/k", {});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->size, bytes_.size());
    EXPECT_FALSE(open()->stat("dir", {})) << "no object is no error";
  }
}

TEST_F(S3Faults, AsksForNoWeakETagButCompares) {  // If-Match never holds for one
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    if (!asked.request.header("if-match").empty()) reply = FakeS3::error(412, "PreconditionFailed");
    for (auto& [name, value] : reply.headers)
      if (name == "ETag") value = "W/" + value;
  });
  const auto source = open();
  const ObjectInfo object = source->stat("dir/k", {}).value();
  EXPECT_EQ(object.etag, "W/\"" + object_.etag + "\"");
  EXPECT_EQ(read_all(*source, object), bytes_);
  s3_.put("dir/k", std::string(bytes_.size(), 'x'));
  EXPECT_THAT(message_of<ChangedError>([&] { read_all(*source, object); }), HasSubstr("ETag"));
}

TEST_F(S3Faults, DuplicatesAStragglerAndDropsTheLoser) {
  const auto source = open();
  for (int i = 0; i < 64; ++i) read_range(*source, object_, 0, 10);  // teaches what is normal
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    if (!asked.hedge) reply.first_byte_delay = milliseconds(5'000);  // below the stall timeout
  });
  EXPECT_EQ(read_all(*source, object_), bytes_);
  EXPECT_EQ(s3_.hedges(), 1);
  EXPECT_EQ(s3_.retries(), 0);
}

TEST_F(S3Faults, HedgesOnlyAFewRequests) {
  const auto source = open();
  for (int i = 0; i < 64; ++i) read_range(*source, object_, 0, 10);
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply.first_byte_delay = milliseconds(300); });
  std::vector<std::future<std::string>> reads;
  for (int i = 0; i < 100; ++i) reads.push_back(testing::start_read(*source, {object_, 0, 10}));
  for (auto& read : reads) EXPECT_EQ(read.get().size(), 10u);
  EXPECT_LE(s3_.hedges(), 1 + 164 / 20);
}

TEST_F(S3Faults, RefusesAnswersThatAreNoListing) {
  for (const char* body :
       {"", "<html>not S3</html>", "<ListBucketResult><Contents><Key>a</Key>", "{\"json\": true}"}) {
    s3_.set_fault([&](const FakeS3::Asked&, Reply& reply) { reply.body = body; });
    EXPECT_THAT(message_of<SourceError>([&] { testing::list_all(*open(), {""}); }),
                ::testing::Not(HasSubstr("no error")))
        << body;
  }
}

TEST_F(S3Faults, EndsAListingThatRepeatsItself) {
  s3_.set_page_size(1);
  s3_.put("a", "x");
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) {
    reply.body =
        "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key><Size>1</Size></Contents>"
        "<NextContinuationToken>same</NextContinuationToken></ListBucketResult>";
  });
  EXPECT_THAT(message_of<SourceError>([&] { testing::list_all(*open(), {""}); }),
              HasSubstr("continuation token"));
}

TEST_F(S3Faults, EndsAListingThatGoesInACircle) {
  std::atomic<int> pages{0};
  s3_.set_fault([&](const FakeS3::Asked&, Reply& reply) {
    const int page = ++pages;
    reply.body = fmt::format(
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
        "</ListBucketResult>",
        page < 5 ? page : 5 + page % 7);
  });
  EXPECT_THAT(message_of<SourceError>([&] { testing::list_all(*open(), {""}); }),
              HasSubstr("continuation token"));
  EXPECT_LE(pages, 50);
}

TEST_F(S3Faults, RefusesAnswersThatAreNoHttp) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) {
    reply.raw = "SSH-2.0-OpenSSH_9.2\r\n";
    reply.close = true;
  });
  S3Options options = s3_.options();
  options.max_attempts = 2;
  EXPECT_THAT(message_of<SourceError>([&] { read_all(*open_s3_source("bucket", options), object_); }),
              HasSubstr("s3://bucket/dir/k"));
}

TEST_F(S3Faults, RefusesMoreBytesThanItAskedFor) {
  fail_first(100, [](Reply& reply) { reply.body.append(200'000, 'x'); });
  EXPECT_THAT(message_of<SourceError>([&] { read(); }),
              HasSubstr("more of s3://bucket/dir/k than was asked for"));
}

TEST_F(S3Faults, SaysThatNothingListensThere) {
  S3Options options = s3_.options();
  options.endpoint_url = "http://127.0.0.1:" + std::to_string(testing::unused_port());
  options.max_attempts = 2;
  EXPECT_THAT(
      message_of<SourceError>([&] { testing::list_all(*open_s3_source("bucket", options), {""}); }),
      AllOf(HasSubstr("Cannot reach " + options.endpoint_url), HasSubstr("port"), HasSubstr("endpoint_url")));
}

TEST_F(S3Faults, SaysThatAHostIsUnknown) {
  S3Options options = s3_.options();
  options.endpoint_url = "http://no-such-host.invalid";
  options.max_attempts = 1;
  EXPECT_THAT(message_of<SourceError>([&] { testing::list_all(*open_s3_source("bucket", options), {""}); }),
              AllOf(HasSubstr("no-such-host.invalid"), HasSubstr("host name is unknown")));
}

TEST_F(S3Faults, SaysThatAServerSpeaksNoTls) {
  S3Options options = s3_.options();
  options.endpoint_url = "https://127.0.0.1:" + std::to_string(s3_.port());
  options.max_attempts = 1;
  EXPECT_THAT(message_of<SourceError>([&] { testing::list_all(*open_s3_source("bucket", options), {""}); }),
              AllOf(HasSubstr(options.endpoint_url), HasSubstr("http://")));
}

TEST_F(S3Faults, CancelsWhatIsInFlightAndWhatWaits) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply.stall_after = 0; });
  S3Options options = s3_.options();
  options.max_requests = 2;
  options.stall_timeout = milliseconds(20'000);
  options.hedging = false;
  const auto source = open_s3_source("bucket", options);
  std::atomic<int> cancelled{0}, others{0};
  std::vector<std::shared_ptr<PendingRead>> reads;
  for (int i = 0; i < 10; ++i) {
    reads.push_back(source->read({object_, 0, 100}, [&](ReadResult result) {
      try {
        if (result.error) std::rethrow_exception(result.error);
        ++others;
      } catch (const CancelledError&) {
        ++cancelled;
      } catch (...) {
        ++others;
      }
    }));
  }
  for (const auto& read : reads) read->cancel();
  for (const auto& read : reads) read->cancel();
  for (int i = 0; i < 6000 && cancelled + others < 10; ++i) usleep(10'000);
  EXPECT_EQ(cancelled, 10);
  EXPECT_EQ(others, 0);
}

TEST_F(S3Faults, LetsAnInterruptEndEveryWait) {
  s3_.set_fault([](const FakeS3::Asked&, Reply& reply) { reply.first_byte_delay = milliseconds(5'000); });
  S3Options options = s3_.options();
  options.stall_timeout = milliseconds(20'000);
  const auto source = open_s3_source("bucket", options);
  struct Stop {};
  const Interrupt interrupt = [] { throw Stop(); };
  EXPECT_THROW(source->stat("dir/k", interrupt), Stop);
  EXPECT_THROW(source->names_below("", 10, interrupt), Stop);
  EXPECT_THROW(source->list(
                   std::vector<std::string>{"", "x"}, [](auto&&) {}, interrupt),
               Stop);
}

TEST_F(S3Faults, RefusesOptionsThatMakeNoSense) {
  const auto with = [&](auto change, const std::string& bucket = "bucket") {
    S3Options options = s3_.options();
    change(options);
    return message_of<ConfigError>([&] { open_s3_source(bucket, options); });
  };
  EXPECT_THAT(with([](S3Options&) {}, "no/bucket"), HasSubstr("'no/bucket' is no bucket name"));
  EXPECT_THAT(with([](S3Options& options) { options.endpoint_url = "localhost:9000"; }),
              HasSubstr("endpoint_url"));
  EXPECT_THAT(with([](S3Options& options) { options.region = "eu west"; }), HasSubstr("region 'eu west'"));
  EXPECT_THAT(with([](S3Options& options) { options.ca_bundle = "/no/such/file"; }),
              HasSubstr("ca_bundle '/no/such/file'"));
  EXPECT_THAT(with([](S3Options& options) { options.max_connections = 0; }),
              HasSubstr("max_connections is 0"));
  EXPECT_THAT(with([](S3Options& options) { options.addressing_style = AddressingStyle::kVirtual; }),
              HasSubstr("addressing_style"));
}

}  // namespace
}  // namespace alnair
