#include "redis/url.h"

#include <gmock/gmock.h>

#include "alnair/core/error.h"

namespace alnair::redis {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string error_of(std::string_view url) {
  try {
    parse_url(url);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RedisUrl, NamesSeedsUserAndPassword) {
  const Options options = parse_url("redis://us%40er:p%3Aa%2Fs%3Fs@10.0.0.1:7000,cache.example.com,[fd00::1]:7001/");
  EXPECT_THAT(options.seeds,
              ElementsAre(Address{.host = "10.0.0.1", .port = 7000}, Address{.host = "cache.example.com", .port = 6379},
                          Address{.host = "fd00::1", .port = 7001}));
  EXPECT_EQ(options.user, "us@er");
  EXPECT_EQ(options.password, "p:a/s?s");
  EXPECT_FALSE(options.tls);
  EXPECT_EQ(options.mode, Mode::kAuto);
  EXPECT_EQ(options.key_namespace, "alnair");
  EXPECT_EQ(options.domain, "default");
}

TEST(RedisUrl, TheOneDatabaseOfAClusterMayBeNamed) {
  EXPECT_EQ(parse_url("redis://host:7000/0?namespace=n").seeds, parse_url("redis://host:7000").seeds);
}

TEST(RedisUrl, WithoutAUserThePasswordIsTheDefaultUsers) {
  const Options options = parse_url("redis://:secret@host");
  EXPECT_EQ(options.user, "");
  EXPECT_EQ(options.password, "secret");
}

TEST(RedisUrl, TakesOptions) {
  const Options options = parse_url(
      "rediss://host?mode=cluster&namespace=team-a&domain=ml.1&tls_ca=/ca.pem&tls_cert=/c.pem&tls_key=/k%20.pem&"
      "tls_name=redis.local&timeout_ms=250&deadline_ms=3000&window_bytes=65536&password_file=/run/secret");
  EXPECT_TRUE(options.tls);
  EXPECT_TRUE(options.tls_verify);
  EXPECT_EQ(options.mode, Mode::kCluster);
  EXPECT_EQ(options.key_namespace, "team-a");
  EXPECT_EQ(options.domain, "ml.1");
  EXPECT_EQ(options.tls_ca, "/ca.pem");
  EXPECT_EQ(options.tls_cert, "/c.pem");
  EXPECT_EQ(options.tls_key, "/k .pem");
  EXPECT_EQ(options.tls_name, "redis.local");
  EXPECT_EQ(options.timeout, std::chrono::milliseconds(250));
  EXPECT_EQ(options.deadline, std::chrono::milliseconds(3000));
  EXPECT_EQ(options.window_bytes, 65536u);
  EXPECT_EQ(options.password_file, "/run/secret");
}

TEST(RedisUrl, WhatIsWrittenIsReadAgain) {
  for (const char* url :
       {"redis://host:6379", "redis://us%40er:p%3Aa%2Fs%3Fs@10.0.0.1:7000,[fd00::1]:7001?mode=cluster&domain=ml.1",
        "redis://:secret@host:1?namespace=n&flusher=false&timeout_ms=250&deadline_ms=3000&window_bytes=65536",
        "rediss://user@host:1?password_file=%2Frun%2Fsecret&tls_ca=%2Fca.pem&tls_cert=%2Fc.pem&tls_key=%2Fk%20.pem&"
        "tls_name=redis.local",
        "rediss://host:1?tls_verify=false", "unix://u:p@/run%2Fredis.sock?mode=standalone"})
    EXPECT_EQ(to_url(parse_url(url)), url);
  EXPECT_FALSE(parse_url("redis://host?flusher=false").flusher);
}

TEST(RedisUrl, NamesUnixSockets) {
  for (const char* url :
       {"unix:/run/redis.sock?mode=standalone", "unix:///run/redis.sock", "unix://u:p@/run/redis.sock"}) {
    const Options options = parse_url(url);
    EXPECT_THAT(options.seeds, ElementsAre(Address{.path = "/run/redis.sock"})) << url;
  }
  EXPECT_EQ(parse_url("unix://u:p@/run/redis.sock").password, "p");
}

TEST(RedisUrl, AnUnknownOptionIsAnErrorThatNamesTheNearOne) {
  EXPECT_THAT(error_of("redis://host?timeout=5"), HasSubstr("unknown option 'timeout'; did you mean timeout_ms?"));
  EXPECT_THAT(error_of("redis://host?namespaces=a"), HasSubstr("did you mean namespace?"));
}

TEST(RedisUrl, SaysWhatIsWrong) {
  const std::vector<std::pair<const char*, const char*>> cases{
      {"", "redis: the URL is empty; expected redis://HOST"},
      {"http://host", "this is no Redis URL; expected redis://HOST"},
      {"redis:host", "'//' is missing after 'redis:'"},
      {"redis://", "a host is empty"},
      {"redis://a,,b", "a host is empty"},
      {"redis://host:0", "the host 'host' has no valid port"},
      {"redis://host:port", "the host 'host' has no valid port"},
      {"redis://host:6379x", "the host 'host' has no valid port"},
      {"redis://::1", "write an IPv6 address in brackets"},
      {"redis://[::x]", "no valid IPv6 address"},
      {"redis://host/3", "databases are not chosen by number"},
      {"redis://ho st", "a space or a control character"},
      {"redis://host?mode=sentinel", "the option mode is none of auto, cluster, standalone and proxy"},
      {"redis://host?mode", "the option mode has no value"},
      {"redis://host?mode=auto&mode=auto", "the option mode is there twice"},
      {"redis://host?namespace=a:b", "the option namespace must be 1 to 64 letters"},
      {"redis://host?domain=", "the option domain must be 1 to 64 letters"},
      {"redis://host?domain=..", "and more than dots"},
      {"redis://host/0/1", "databases are not chosen by number"},
      {"redis://host?timeout_ms=0", "the option timeout_ms must be a number from 10 to 600000"},
      {"redis://host?timeout_ms=1s", "the option timeout_ms must be a number"},
      {"redis://host?tls_ca=/x", "the option tls_ca is for TLS; write rediss://"},
      {"rediss://host?tls_cert=/x", "tls_cert and tls_key belong together"},
      {"rediss://host?tls_verify=no", "neither true nor false"},
      {"redis://host?namespace=%zz", "'%' that begins no %XX escape"},
      {"redis://user@host", "the user has no password"},
      {"redis://@host", "neither a user nor a password"},
      {"redis://:p@host?password_file=/f", "a password and a password_file"},
      {"redis://a,b?mode=standalone", "mode=standalone takes one host"},
      {"unix:relative", "the Unix socket's path must begin with '/'"},
      {"unix:/s?mode=cluster", "a cluster cannot be reached through a Unix socket"},
  };
  for (const auto& [url, expected] : cases)
    EXPECT_THAT(error_of(url), AllOf(StartsWith("redis: "), HasSubstr(expected))) << url;
}

TEST(RedisUrl, MessagesShowNoPassword) {
  for (const char* url :
       {"redis://u:s3cret@host:bad", "redis://u:s3cret@", "redis://u:s3cr?s3cret@host", "redis://u:s3c/s3cret@host",
        "redis://u:#s3cret@host", "redis://u:%zs3cret@host", "http://u:s3cret@host", "redis://u:s3cret@host?x=s3cret",
        "redis://u:a?s3cret=b@host", "redis://u:s3cret@host?password_file=/s3cret"})
    EXPECT_THAT(error_of(url), Not(HasSubstr("s3cret"))) << url;
}

}  // namespace
}  // namespace alnair::redis
