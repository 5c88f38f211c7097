// The S3 source against a server that does as it should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "alnair/core/error.h"
#include "support/fake_s3.h"
#include "support/s3_reads.h"

namespace alnair {
namespace {

using ::testing::ElementsAre;
using testing::FakeS3;
using testing::keys_of;
using testing::list_all;
using testing::random_bytes;
using testing::read_all;
using testing::read_range;
using testing::Reply;

TEST(S3Source, ReadsWholeObjectsAndParts) {
  FakeS3 s3;
  const std::string bytes = random_bytes(100'000);
  s3.put("a/object", bytes);
  const auto source = open_s3_source("bucket", s3.options());
  const ObjectInfo object = source->stat("a/object", {}).value();
  EXPECT_EQ(object.size, bytes.size());
  EXPECT_EQ(object.etag, testing::md5_of(bytes));
  EXPECT_EQ(object.last_modified_ms, 1'700'000'000'000);
  EXPECT_EQ(read_all(*source, object), bytes);
  EXPECT_EQ(read_range(*source, object, 10, 20), bytes.substr(10, 20));
  EXPECT_EQ(read_range(*source, object, 99'999, 1), bytes.substr(99'999));
}

TEST(S3Source, ReadsAnEmptyObject) {
  FakeS3 s3;
  s3.put("empty", "");
  const auto source = open_s3_source("bucket", s3.options());
  EXPECT_EQ(read_all(*source, source->stat("empty", {}).value()), "");
}

TEST(S3Source, ListsEveryObjectOfSeveralPrefixesOnceOverManyPages) {
  FakeS3 s3;
  s3.set_page_size(7);
  std::vector<std::string> expected;
  for (int i = 0; i < 40; ++i) {
    for (const char* folder : {"a/", "b/", "c/"}) {
      const std::string key = folder + std::to_string(i);
      s3.put(key, "x");
      if (key[0] != 'c') expected.push_back(key);
    }
  }
  const auto source = open_s3_source("bucket", s3.options());
  EXPECT_THAT(keys_of(list_all(*source, {"a/", "b/", "a/1", "b/"})),
              ::testing::UnorderedElementsAreArray(expected));
  s3.give_tokens(false);
  EXPECT_THAT(keys_of(list_all(*source, {"a/", "b/"})), ::testing::UnorderedElementsAreArray(expected));
}

TEST(S3Source, NamesTheNextLevel) {
  FakeS3 s3;
  for (const char* key :
       {"train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "train/readme", "test/1.png"})
    s3.put(key, "x");
  const auto source = open_s3_source("bucket", s3.options());
  EXPECT_THAT(source->names_below("train/", 10, {}), ElementsAre("train/cat/", "train/dog/", "train/readme"));
  EXPECT_THAT(source->names_below("", 10, {}), ElementsAre("test/", "train/"));
  EXPECT_THAT(source->names_below("train/", 2, {}), ElementsAre("train/cat/", "train/dog/"));
  s3.set_page_size(1);
  EXPECT_THAT(source->names_below("train/", 3, {}), ElementsAre("train/cat/", "train/dog/", "train/readme"));
}

TEST(S3Source, ReadsKeysOfAnyBytes) {
  FakeS3 s3;
  const std::vector<std::string> keys{
      "a b+c%20d", "quote'\"&<>",          "ü/日本語/🙂", "//double//",     "../up/./here/..",
      "/leading",  std::string(1024, 'k'), "#?;=@:,$!*()[]",    "tab\tnewline\n", "trailing/",
      "\x7f\x01"};
  for (const std::string& key : keys) s3.put(key, "bytes of " + key);
  const auto source = open_s3_source("bucket", s3.options());
  EXPECT_THAT(keys_of(list_all(*source, {""})), ::testing::UnorderedElementsAreArray(keys));
  for (const std::string& key : keys) {
    const auto object = source->stat(key, {});
    ASSERT_TRUE(object) << key;
    EXPECT_EQ(read_all(*source, *object), "bytes of " + key);
  }
}

TEST(S3Source, SaysThatAnObjectDoesNotExist) {
  FakeS3 s3;
  const auto source = open_s3_source("bucket", s3.options());
  EXPECT_EQ(source->stat("nothing", {}), std::nullopt);
  EXPECT_EQ(source->stat("nothing else", {}), std::nullopt);
  EXPECT_EQ(s3.count(FakeS3::Kind::kList), 1);  // whether the bucket exists is asked once
}

TEST(S3Source, MarksArchivedObjects) {
  FakeS3 s3;
  s3.put("cold", {.bytes = "x", .etag = "", .storage_class = "DEEP_ARCHIVE", .headers = {}});
  s3.put("warm", {.bytes = "x", .etag = "", .storage_class = "STANDARD_IA", .headers = {}});
  s3.put("restored",
         {.bytes = "x",
          .etag = "",
          .storage_class = "GLACIER",
          .headers = {{"x-amz-restore",
                       "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\""}}});
  const auto source = open_s3_source("bucket", s3.options());
  EXPECT_TRUE(source->stat("cold", {})->archived);
  EXPECT_FALSE(source->stat("warm", {})->archived);
  EXPECT_FALSE(source->stat("restored", {})->archived);
  for (const ObjectInfo& object : list_all(*source, {"cold"})) EXPECT_TRUE(object.archived);
}

TEST(S3Source, KeepsToItsLimitOfRequests) {
  FakeS3 s3;
  s3.put("object", random_bytes(1000));
  s3.set_fault(
      [](const FakeS3::Asked&, Reply& reply) { reply.first_byte_delay = std::chrono::milliseconds(5); });
  S3Options options = s3.options();
  options.max_requests = 3;
  options.event_loop_threads = 2;
  const auto source = open_s3_source("bucket", options);
  const ObjectInfo object = source->stat("object", {}).value();
  std::vector<std::future<std::string>> reads;
  for (int i = 0; i < 60; ++i)
    reads.push_back(testing::start_read(*source, {object, static_cast<std::uint64_t>(i), 100}));
  for (int i = 0; i < 60; ++i) EXPECT_EQ(reads[static_cast<std::size_t>(i)].get().size(), 100u);
  EXPECT_LE(s3.most_at_once(), 3);
  EXPECT_LE(s3.connections(), 4);
  EXPECT_EQ(s3.count(FakeS3::Kind::kGet), 60);
}

TEST(S3Source, SignsForItsRegionAndSaysWhoItIs) {
  FakeS3 s3;
  s3.put("k", "x");
  std::string authorization, agent, payload;
  s3.set_fault([&](const FakeS3::Asked& asked, Reply&) {
    authorization = asked.request.header("authorization");
    agent = asked.request.header("user-agent");
    payload = asked.request.header("x-amz-content-sha256");
  });
  S3Options options = s3.options();
  options.region = "eu-north-1";
  options.requester_pays = true;
  open_s3_source("bucket", options)->stat("k", {});
  EXPECT_THAT(authorization, ::testing::HasSubstr("Credential=TESTKEY/"));
  EXPECT_THAT(authorization, ::testing::HasSubstr("/eu-north-1/s3/aws4_request"));
  EXPECT_THAT(authorization, ::testing::HasSubstr("x-amz-request-payer"));
  EXPECT_THAT(agent, ::testing::StartsWith("alnair/"));
  EXPECT_EQ(payload, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(S3Source, SendsNothingSecretWhenAnonymous) {
  FakeS3 s3;
  s3.put("k", "x");
  std::string authorization = "none seen";
  s3.set_fault(
      [&](const FakeS3::Asked& asked, Reply&) { authorization = asked.request.header("authorization"); });
  S3Options options = s3.options();
  options.credentials.reset();
  options.anonymous = true;
  EXPECT_TRUE(open_s3_source("bucket", options)->stat("k", {}));
  EXPECT_EQ(authorization, "");
}

}  // namespace
}  // namespace alnair
