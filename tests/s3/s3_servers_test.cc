// What only real servers and real processes show: refused signatures, TLS, forked children.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "alnair/core/error.h"
#include "support/fake_s3.h"
#include "support/s3_process.h"
#include "support/s3_reads.h"

namespace alnair {
namespace {

using ::testing::AllOf;
using testing::FakeS3;
using ::testing::HasSubstr;
using testing::read_all;
using testing::S3Process;

class S3Servers : public ::testing::TestWithParam<S3Process::Program> {};

TEST_P(S3Servers, RefuseWrongCredentialsAndTheMessageSaysWhich) {
  const auto server = S3Process::start(GetParam());
  if (!server) GTEST_SKIP() << "the server's program is not here";
  server->make_bucket("bucket");
  server->put("bucket", "k", "bytes");
  const auto message = [&](S3Options options, const std::string& bucket = "bucket") {
    try {
      testing::list_all(*open_s3_source(bucket, options), {""});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  S3Options options = server->options();
  EXPECT_EQ(message(options), "no error");
  options.credentials->secret_access_key = "not the secret";
  EXPECT_THAT(message(options), AllOf(HasSubstr("secret access key does not fit"), HasSubstr("'TESTKEYID'"),
                                      HasSubstr(server->url())));
  EXPECT_THAT(message(options), ::testing::Not(HasSubstr("not the secret")));
  options.credentials->access_key_id = "UNKNOWNKEYID";
  EXPECT_THAT(message(options), AllOf(HasSubstr("'UNKNOWNKEYID' is unknown"), HasSubstr(server->url())));
  EXPECT_THAT(message(server->options(), "nobucket"),
              AllOf(HasSubstr("'nobucket' does not exist"), HasSubstr(server->url())));
}

TEST_P(S3Servers, AnswerPresignedUrls) {
  const auto server = S3Process::start(GetParam());
  if (!server) GTEST_SKIP() << "the server's program is not here";
  server->make_bucket("bucket");
  server->put("bucket", "a b/ü+=.bin", "bytes");
  const auto http = make_http_client({});
  HttpRequest request;
  request.url = presign_get("bucket", "a b/ü+=.bin", server->options(), std::chrono::minutes(5));
  const HttpResponse response = http->call(std::move(request));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body.text(), "bytes");
}

INSTANTIATE_TEST_SUITE_P(S3, S3Servers,
                         ::testing::Values(S3Process::Program::kRclone, S3Process::Program::kVersitygw),
                         [](const auto& server) {
                           return server.param == S3Process::Program::kRclone ? "rclone" : "versitygw";
                         });

TEST(S3Addressing, ABucketMayBeAHost) {
  const auto server = S3Process::start(S3Process::Program::kVersitygw);
  if (!server) GTEST_SKIP() << "the server's program is not here";
  server->make_bucket("bucket");
  server->put("bucket", "a b/ü+=.bin", "bytes");
  const auto source = open_s3_source("bucket", server->virtual_host_options());
  EXPECT_EQ(read_all(*source, source->stat("a b/ü+=.bin", {}).value()), "bytes");
  EXPECT_THAT(source->names_below("", 10, {}), ::testing::ElementsAre("a b/"));

  // The server would have taken both styles: what was sent?
  std::string host, path;  // of the first request
  testing::HttpServer seen([&](const testing::SeenRequest& request) {
    if (host.empty()) path = request.path;
    if (host.empty()) host = request.header("host");
    return testing::Reply{.status = 404};
  });
  S3Options options = server->virtual_host_options();
  options.endpoint_url = "http://s3.localhost" + seen.url().substr(seen.url().rfind(':'));
  EXPECT_THROW(open_s3_source("bucket", options)->stat("k", {}), NotFoundError);
  EXPECT_EQ(host, "bucket." + options.endpoint_url.substr(7));
  EXPECT_EQ(path, "/k");
}

TEST(S3Tls, TrustsTheGivenAuthorityAndRefusesOthers) {
  testing::TemporaryDirectory directory;
  const std::string certificate = directory / "cert.pem", key = directory / "key.pem";
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
      "-addext subjectAltName=DNS:localhost -keyout " +
      key + " -out " + certificate + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "there is no openssl command";
  const auto server = S3Process::start(S3Process::Program::kVersitygw, certificate, key);
  if (!server) GTEST_SKIP() << "the server's program is not here";
  server->make_bucket("bucket");
  server->put("bucket", "k", "bytes");
  S3Options options = server->options();
  const auto source = open_s3_source("bucket", options);
  EXPECT_EQ(read_all(*source, source->stat("k", {}).value()), "bytes");
  options.ca_bundle = "";
  try {
    open_s3_source("bucket", options)->stat("k", {});
    FAIL() << "an unknown certificate was trusted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("TLS certificate of " + server->url()), HasSubstr("ca_bundle")));
  }
  options.ca_bundle = directory / "garbage.pem";
  std::ofstream(options.ca_bundle) << "garbage";
  try {
    open_s3_source("bucket", options)->stat("k", {});
    FAIL() << "garbage was trusted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("The certificates to trust for " + server->url() + " cannot be used"),
                                    HasSubstr(options.ca_bundle)));
  }
}

// Runs `body` in a forked child; true if it returned true.
bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    bool good = false;
    try {
      good = body();
    } catch (...) {
    }
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(S3Fork, AChildReadsWithConnectionsOfItsOwn) {
  FakeS3 s3;
  s3.put("k", testing::random_bytes(100'000));
  const auto source = open_s3_source("bucket", s3.options());
  const ObjectInfo object = source->stat("k", {}).value();
  const std::string bytes = read_all(*source, object);
  const int connections = s3.connections();
  std::vector<std::future<std::string>> in_flight;
  for (int i = 0; i < 50; ++i) in_flight.push_back(testing::start_read(*source, {object, 0, object.size}));
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(
        in_child([&] { return read_all(*source, object) == bytes && source->stat("k", {}).has_value(); }));
  for (auto& read : in_flight) EXPECT_EQ(read.get(), bytes);
  EXPECT_EQ(read_all(*source, object), bytes);
  EXPECT_GT(s3.connections(), connections + 2);
}

TEST(S3Fork, AChildThatExitsHarmsNobody) {
  FakeS3 s3;
  s3.put("k", "bytes");
  const auto source = open_s3_source("bucket", s3.options());
  const ObjectInfo object = source->stat("k", {}).value();
  EXPECT_TRUE(in_child([&] {
    read_all(*source, object);
    std::exit(0);  // runs the exit handlers while the event loop lives
    return false;
  }));
  EXPECT_EQ(read_all(*source, object), "bytes");
}

}  // namespace
}  // namespace alnair
