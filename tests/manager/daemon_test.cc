// What the daemon and the commands read and write.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <sstream>

#include "alnair/core/error.h"
#include "manager/command/arguments.h"
#include "manager/command/command.h"
#include "manager/command/table.h"
#include "manager/daemon/client_conf.h"
#include "manager/daemon/job_file.h"
#include "manager/daemon/miss_server.h"
#include "manager/daemon/share_file.h"
#include "support/temporary_directory.h"

namespace alnair::manager {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class DaemonFiles : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name) << text;
    return directory_ / name;
  }
  template <typename Read>
  static std::string error_of(const Read& read) {
    try {
      read();
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "(no ConfigError)";
  }
  ::alnair::testing::TemporaryDirectory directory_;
};

TEST_F(DaemonFiles, JobFilesMayHaveNamesInAnyCaseAndValuesAsTexts) {
  const JobOptions job =
      read_job_file(write("j.json", R"({"Name": "x", "DataSource": {"Bucket": "pets", "Keys": ["a", "b/"]},
                          "QoS": {"UseCache": "False", "MaxMemory": "17", "DurabilityInDisk": 5, "LazyLoading": false}})"),
                    "j");
  EXPECT_EQ(job.name, "j");
  EXPECT_EQ(job.bucket, "pets");
  EXPECT_THAT(job.keys, ElementsAre("a", "b/"));
  EXPECT_FALSE(job.usecache);
  EXPECT_FALSE(job.lazyloading);
  EXPECT_EQ(job.maxmemory, 17u);
  EXPECT_EQ(job.durabilityindisk, 5u);
  EXPECT_EQ(job.resources, "");
  EXPECT_EQ(
      read_job_file(write("r.json", R"({"DataSource": {"Bucket": "b"}, "ResourceInfo": {"GPUs": 2}})"), "r").resources,
      R"({"GPUs":2})");
  EXPECT_THAT(read_job_file(write("k.json", R"({"datasource": {"bucket": "b", "keys": "one"}})"), "k").keys,
              ElementsAre("one"));
}

TEST_F(DaemonFiles, JobFilesThatAreMalformedAreNamedWithTheField) {
  const auto error = [&](const std::string& text) {
    return error_of([&] { read_job_file(write("j.json", text), "j"); });
  };
  EXPECT_THAT(error("{"), AllOf(HasSubstr("j.json"), HasSubstr("expected a JSON object")));
  std::string deep = R"({"datasource": {"bucket": "b"}, "qos": {"maxmemory": )";
  for (int i = 0; i < 200'000; ++i) deep += "[";
  EXPECT_THAT(error(deep), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error(deep + std::string(200'000, ']') + "}}"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error("{}"), HasSubstr("field datasource: expected an object"));
  EXPECT_THAT(error(R"({"datasource": {"bucket": 5}})"), HasSubstr("field datasource.bucket: expected a text"));
  EXPECT_THAT(error(R"({"datasource": {"bucket": "b", "keys": [1]}})"),
              HasSubstr("field datasource.keys: expected a list of texts"));
  EXPECT_THAT(error(R"({"datasource": {"bucket": "b"}, "qos": {"maxmemory": -1}})"), HasSubstr("field qos.maxmemory"));
  EXPECT_THAT(error(R"({"datasource": {"bucket": "b"}, "qos": {"usecache": "maybe"}})"),
              HasSubstr("field qos.usecache"));
  EXPECT_THAT(error(R"({"datasource": {"bucket": "b"}, "resources": 5})"),
              HasSubstr("field resources: expected an object"));
}

TEST_F(DaemonFiles, TheSecretNamesTheManagerAndTheCredentials) {
  const ManagerOptions options =
      read_client_conf(write("client.conf",
                             "[aws_s3]\naws_access_key_id = ID\naws_secret_access_key = sesame\n"
                             "endpoint_url = http://s3:9\n[Alnair_Manager]\nserver_address = ::1\n"
                             "server_port = 50051\nusername = alice\npassword = pass\ntls_ca = /ca\n"));
  EXPECT_EQ(options.url, "https://[::1]:50051");
  EXPECT_EQ(options.username, "alice");
  EXPECT_EQ(options.password, "pass");
  EXPECT_EQ(options.ca_bundle, "/ca");
  EXPECT_EQ(options.s3_credentials->secret_access_key, "sesame");
  EXPECT_EQ(options.s3_endpoint_url, "http://s3:9");
  EXPECT_THAT(
      error_of([&] {
        read_client_conf(write("client.conf",
                               "[aws_s3]\naws_secret_access_key = sesame\n[alnair_manager]\nserver_address = h\n"
                               "server_port = 1\nusername = a\npassword = p\n"));
      }),
      AllOf(HasSubstr("[aws_s3] has no value for the field aws_access_key_id"), Not(HasSubstr("sesame"))));
}

TEST_F(DaemonFiles, ShareFilesAreWrittenWholeWithTheirMode) {
  const ShareOptions options{.directory = directory_.path(), .mode = 0640};
  JobStatus status{.state = "ready", .id = "1", .version = "v"};
  status.manifest = std::make_shared<const std::vector<std::byte>>(3, std::byte{7});
  EXPECT_EQ(shared_state(directory_.path(), "j"), "");
  write_share_files(options, {.name = "j", .bucket = "b"}, {.url = "http://m", .password = "sesame"}, status);
  EXPECT_EQ(shared_state(directory_.path(), "j"), "ready");
  struct stat file {};
  ASSERT_EQ(stat((directory_ / "j.json").c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0640u);
  EXPECT_EQ(std::filesystem::file_size(directory_ / "j.manifest"), 3u);
  std::ostringstream text;
  text << std::ifstream(directory_ / "j.json").rdbuf();
  EXPECT_THAT(text.str(), AllOf(HasSubstr("\"j.manifest\""), Not(HasSubstr("sesame"))));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_.path()), {}), 2) << "no temporary file stays";
  remove_share_files(options, "j");
  remove_share_files(options, "j");
  EXPECT_EQ(shared_state(directory_.path(), "j"), "");
  EXPECT_THAT(error_of([&] { write_share_files({.directory = directory_ / "absent"}, {.name = "j"}, {}, status); }),
              HasSubstr(directory_ / "absent" + "/j.manifest: cannot be written"));
}

TEST(ProcessCounts, AreSumsOverAllProcessesAlsoThoseThatHaveEnded) {
  using namespace std::chrono_literals;
  ProcessCounts counts;
  ProcessCounts::Time now{1000s};
  counts.joined("a");
  counts.told("a", {{"reads", 5}, {"memory_hits", 3}});
  counts.told("a", {{"reads", 8}, {"memory_hits", 4}});
  counts.joined("b");
  counts.joined("b");  // it has two connections
  counts.told("b", {{"reads", 1}, {"nonsense", 7}, {"wait_us", -2}});
  EXPECT_THAT(counts.sum(now), ::testing::UnorderedElementsAre(std::pair("reads", 9.0), std::pair("memory_hits", 4.0)));
  counts.left("a", now);
  counts.left("b", now);
  now += 3600s;
  EXPECT_EQ(counts.sum(now)["reads"], 9);
  counts.told("b", {{"reads", 2}});  // it is connected still, and counts in place of what it told before
  EXPECT_EQ(counts.sum(now)["reads"], 10);
}

TEST(ProcessCounts, OfOneThatComesBackCountOnceHoweverManyThereWere) {
  using namespace std::chrono_literals;
  ProcessCounts counts;
  ProcessCounts::Time now{1000s};
  counts.joined("long");
  counts.told("long", {{"reads", 100}});
  for (int i = 0; i < 2000; ++i, now += 1ms) {
    const std::string name = std::to_string(i);
    counts.joined(name);
    counts.told(name, {{"reads", 1}});
    counts.left(name, now);
    ASSERT_EQ(counts.sum(now)["reads"], 101 + i);
    counts.told("long", {{"reads", 100}});
  }
  counts.left("long", now);
  counts.joined("long");  // its connection was cut
  counts.told("long", {{"reads", 101}});
  EXPECT_EQ(counts.sum(now + 1s)["reads"], 2101);
}

TEST(Arguments, AreOptionsFlagsAndWords) {
  const Arguments arguments =
      parse_arguments({"a", "--config", "x", "--mode=1", "--json", "b"}, {"config", "mode"}, {"json"});
  EXPECT_THAT(arguments.words, ElementsAre("a", "b"));
  EXPECT_EQ(arguments.value("config"), "x");
  EXPECT_EQ(arguments.value("mode"), "1");
  EXPECT_TRUE(arguments.has("json"));
  EXPECT_EQ(arguments.value("absent", "y"), "y");
  EXPECT_THROW(parse_arguments({"--config"}, {"config"}, {}), UsageError);
  EXPECT_THROW(parse_arguments({"--json=1"}, {}, {"json"}), UsageError);
  EXPECT_THROW(parse_arguments({"--jsn"}, {}, {"json"}), UsageError);
}

TEST(Table, IsAsWideAsItMustBe) {
  EXPECT_EQ(table({{"A", "LONG"}, {"t\u00e4st", "x\n"}}), "A     LONG\nt\u00e4st  x?\n");
  EXPECT_EQ(readable_bytes(999), "999 B");
  EXPECT_EQ(readable_bytes(1'500'000), "1.5 MB");
  EXPECT_EQ(readable_age(5), "5 s");
  EXPECT_EQ(readable_age(3600), "60 min");
  EXPECT_EQ(readable_age(864'000), "10 d");
}

}  // namespace
}  // namespace alnair::manager
