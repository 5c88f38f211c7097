#include "s3/sigv4.h"

#include <gmock/gmock.h>

#include "alnair/core/error.h"

namespace alnair {
namespace {

// The worked examples of the S3 documentation ("Signature Calculations for the Authorization Header").
const S3Credentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
const SigningTime kExampleTime{std::chrono::seconds{1369353600}};  // 2013-05-24T00:00:00Z
constexpr char kExampleHost[] = "examplebucket.s3.amazonaws.com";

std::string value_of(const std::vector<Header>& headers, std::string_view name) {
  for (const Header& header : headers)
    if (header.name == name) return header.value;
  return "(absent)";
}

TEST(SigV4, SignsTheDocumentedGetWithARange) {
  const Header headers[] = {{"Host", kExampleHost}, {"Range", "bytes=0-9"}};
  SigningKeyCache keys;
  const auto added = sign_headers({"GET", "/test.txt", "", headers, kEmptyPayloadHash}, kExample, "us-east-1",
                                  kExampleTime, keys);
  EXPECT_EQ(value_of(added, "X-Amz-Date"), "20130524T000000Z");
  EXPECT_EQ(value_of(added, "X-Amz-Security-Token"), "(absent)");
  EXPECT_EQ(value_of(added, "Authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(SigV4, SignsTheDocumentedListing) {
  const Header headers[] = {{"Host", kExampleHost}};
  const QueryParameter parameters[] = {{"prefix", "J"}, {"max-keys", "2"}};
  const std::string query = canonical_query(parameters);
  EXPECT_EQ(query, "max-keys=2&prefix=J");
  SigningKeyCache keys;
  const auto added = sign_headers({"GET", "/", query, headers, kEmptyPayloadHash}, kExample, "us-east-1",
                                  kExampleTime, keys);
  EXPECT_THAT(value_of(added, "Authorization"),
              testing::EndsWith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST(SigV4, PresignsTheDocumentedUrl) {
  SigningKeyCache keys;
  EXPECT_EQ(presign_query("GET", kExampleHost, "/test.txt", {}, kExample, "us-east-1", kExampleTime,
                          std::chrono::seconds(86400), keys),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

TEST(SigV4, PresignedUrlsLastFromOneSecondToSevenDays) {
  SigningKeyCache keys;
  const auto presign = [&](int seconds) {
    return presign_query("GET", kExampleHost, "/k", {}, kExample, "us-east-1", kExampleTime,
                         std::chrono::seconds(seconds), keys);
  };
  EXPECT_NO_THROW(presign(1));
  EXPECT_NO_THROW(presign(604800));
  EXPECT_THROW(presign(0), ConfigError);
  EXPECT_THROW(presign(604801), ConfigError);
}

TEST(SigV4, EncodesEveryByteOnceAndNormalisesNothing) {
  EXPECT_EQ(percent_encoded("/a b//../ü+=.bin", Slashes::kKeep), "/a%20b//../%C3%BC%2B%3D.bin");
  EXPECT_EQ(percent_encoded("a/b%20~"), "a%2Fb%2520~");
  EXPECT_EQ(percent_encoded(std::string_view("\0\xff", 2)), "%00%FF");
}

TEST(SigV4, LeavesOutHeadersThatProxiesChangeAndJoinsRepeatedOnes) {
  const Header headers[] = {
      {"User-Agent", "x"}, {"Host", "h"}, {"X-B", "  two   words "}, {"x-a", "1"}, {"X-A", "2"}};
  const CanonicalRequest canonical = canonical_request({"GET", "/", "", headers, kUnsignedPayload});
  EXPECT_EQ(canonical.signed_headers, "host;x-a;x-b");
  EXPECT_EQ(canonical.text, "GET\n/\n\nhost:h\nx-a:1,2\nx-b:two words\n\nhost;x-a;x-b\nUNSIGNED-PAYLOAD");
}

TEST(SigV4, HmacHashesKeysLongerThanABlock) {  // RFC 4231, test case 6
  EXPECT_EQ(
      hex(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(SigningKeyCache, GivesTheKeyOfEachSecretDayAndRegionHoweverManyThereAre) {
  SigningKeyCache keys;
  for (int round = 0; round < 2; ++round)
    for (int i = 0; i < 10; ++i) {
      const std::string secret = "secret" + std::to_string(i % 3), region = "region-" + std::to_string(i % 5);
      const SigningTime time = kExampleTime + std::chrono::hours(24 * (i % 2));
      EXPECT_EQ(keys.get(secret, time, region), signing_key(secret, time, region));
    }
}

}  // namespace
}  // namespace alnair
