#include "source/url.h"

#include <gmock/gmock.h>

#include "alnair/core/error.h"

namespace alnair {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(no ConfigError)";
}
std::string source_error(std::string_view url) {
  return message_of([&] { parse_source_url(url); });
}
std::string endpoint_error(std::string_view url) {
  return message_of([&] { parse_endpoint_url(url); });
}

TEST(SourceUrl, SplitsABucketFromAPath) {
  EXPECT_EQ(parse_source_url("s3://fashion").bucket, "fashion");
  EXPECT_EQ(parse_source_url("s3://fashion").path, "");
  EXPECT_EQ(parse_source_url("s3://fashion/").path, "");
  EXPECT_EQ(parse_source_url("S3://fashion/train/").path, "train/");
}

TEST(SourceUrl, TakesAnS3PathLiterally) {
  EXPECT_EQ(parse_source_url("s3://b//a b%20+?#/../ü").path, "/a b%20+?#/../ü");
}

TEST(SourceUrl, DecodesAFilePath) {
  const SourceUrl url = parse_source_url("file:///data/my%20images");
  EXPECT_EQ(url.kind, SourceUrl::Kind::kFile);
  EXPECT_EQ(url.path, "/data/my images");
  EXPECT_EQ(parse_source_url("file://localhost/data").path, "/data");
  EXPECT_EQ(parse_source_url("file:///").path, "/");
}

TEST(SourceUrl, SaysWhatWasExpected) {
  EXPECT_THAT(source_error(""), HasSubstr("is empty; expected s3://BUCKET"));
  EXPECT_THAT(source_error("fashion"), HasSubstr("'fashion' is no source; expected s3://BUCKET"));
  EXPECT_THAT(source_error("/data/x"), HasSubstr("write file:///data/x"));
  EXPECT_THAT(source_error("s3:/b"), HasSubstr("expected s3://BUCKET"));
  EXPECT_THAT(source_error("s3://"), HasSubstr("names no bucket"));
  EXPECT_THAT(source_error("s3:///k"), HasSubstr("names no bucket"));
  EXPECT_THAT(source_error("s3://a b/k"), HasSubstr("has only letters"));
  EXPECT_THAT(source_error("s3://b/" + std::string(1025, 'k')), HasSubstr("more than 1,024 bytes"));
  EXPECT_THAT(source_error("https://b.s3.amazonaws.com/"), HasSubstr("endpoint_url"));
  EXPECT_THAT(source_error("file://data/x"), HasSubstr("three slashes"));
  EXPECT_THAT(source_error("file:///100%_done"), HasSubstr("%25"));
  EXPECT_THAT(source_error("file:///a%00b"), HasSubstr("zero byte"));
  EXPECT_THAT(message_of([] { parse_source_url("x", "ALNAIR_SOURCE"); }), HasSubstr("ALNAIR_SOURCE 'x'"));
}

TEST(SourceUrl, NeverQuotesAPassword) {
  EXPECT_THAT(source_error("s3://AKIA:pass/word@bucket/k"),
              AllOf(Not(HasSubstr("pass")), Not(HasSubstr("word")), HasSubstr("***@bucket")));
  EXPECT_THAT(endpoint_error("http://u:sesame@host"), AllOf(Not(HasSubstr("sesame")), HasSubstr("***@host")));
  EXPECT_THAT(endpoint_error("user:sesame@host"), Not(HasSubstr("sesame")));
}

TEST(SourceUrl, ShowsControlCharactersEscaped) {
  EXPECT_THAT(source_error("s3://a\nb"), HasSubstr("a\\x0ab"));
  EXPECT_THAT(source_error("\n://x@y"), HasSubstr("'\\x0a://***@y'"));
}

TEST(Endpoint, HasHostPortAndPath) {
  const Endpoint endpoint = parse_endpoint_url("http://LocalHost:9000/minio//");
  EXPECT_FALSE(endpoint.tls);
  EXPECT_EQ(endpoint.host, "localhost");
  EXPECT_EQ(endpoint.port, 9000);
  EXPECT_EQ(endpoint.path, "/minio");
  EXPECT_EQ(endpoint.url(), "http://localhost:9000/minio");
}

TEST(Endpoint, LeavesOutTheSchemesOwnPort) {
  EXPECT_EQ(parse_endpoint_url("https://s3.example.com:443").authority(), "s3.example.com");
  EXPECT_EQ(parse_endpoint_url("http://s3.example.com:443").authority(), "s3.example.com:443");
  EXPECT_EQ(parse_endpoint_url("http://s3.example.com:80/").url(), "http://s3.example.com");
}

TEST(Endpoint, KnowsAddressesFromNames) {
  EXPECT_TRUE(parse_endpoint_url("http://127.0.0.1:9000").is_ip_address());
  EXPECT_TRUE(parse_endpoint_url("http://[::1]:9000").is_ip_address());
  EXPECT_FALSE(parse_endpoint_url("http://127.0.0.1.nip.io").is_ip_address());
  EXPECT_EQ(parse_endpoint_url("http://[2001:DB8::1]:9000").authority(), "[2001:db8::1]:9000");
}

TEST(Endpoint, SaysWhatWasExpected) {
  EXPECT_THAT(endpoint_error(""), HasSubstr("expected http://HOST[:PORT]"));
  EXPECT_THAT(endpoint_error("localhost:9000"), HasSubstr("has no scheme; expected http://HOST[:PORT]"));
  EXPECT_THAT(endpoint_error("ftp://host"), HasSubstr("is no endpoint"));
  EXPECT_THAT(endpoint_error("http://"), HasSubstr("names no host"));
  EXPECT_THAT(endpoint_error("http://:80"), HasSubstr("names no host"));
  EXPECT_THAT(endpoint_error("http://::1:80"),
              testing::AnyOf(HasSubstr("brackets"), HasSubstr("names no host")));
  EXPECT_THAT(endpoint_error("http://fe80::1:80"), HasSubstr("brackets"));
  EXPECT_THAT(endpoint_error("http://[::1"), HasSubstr("IPv6"));
  EXPECT_THAT(endpoint_error("http://[nonsense]"), HasSubstr("IPv6"));
  EXPECT_THAT(endpoint_error("http://[::1]x"), HasSubstr("port"));
  for (const char* url :
       {"http://h:", "http://h:0", "http://h:65536", "http://h:x", "http://h:1x", "http://h:-1"})
    EXPECT_THAT(endpoint_error(url), HasSubstr("from 1 to 65535")) << url;
  EXPECT_THAT(endpoint_error("http://a b"), HasSubstr("space"));
  EXPECT_THAT(endpoint_error("http://h/?x=1"), HasSubstr("query"));
  EXPECT_THAT(endpoint_error("http://h/%zz"), HasSubstr("%XX"));
  EXPECT_THAT(endpoint_error("http://h*st"), HasSubstr("character '*'"));
}

}  // namespace
}  // namespace alnair
