// Against FerretDB, a real server, and against a scripted replica set for what a single server does not do.
#include <gmock/gmock.h>

#include <fstream>
#include <future>

#include "alnair/core/error.h"
#include "core/file.h"
#include "manager/records/mongodb/database.h"
#include "manager/records_contract.h"
#include "manager/scripted_replica_set.h"
#include "support/ferretdb.h"
#include "support/temporary_directory.h"

namespace alnair::manager {
namespace testing {

using namespace std::chrono_literals;
using ::alnair::testing::FerretDb;
using ::alnair::testing::TemporaryDirectory;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct FerretFixture {
  static bool available() { return FerretDb::available(); }
  FerretDb server;
  TemporaryDirectory directory;
  std::unique_ptr<Records> open(const Patience& patience = {}) {
    return open_mongodb_records(directory.path(), {server.uri("alnair_test")}, patience);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Mongodb, RecordsContract, FerretFixture);

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

class MongodbRecordsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!FerretDb::available()) GTEST_SKIP() << "ALNAIR_TEST_FERRETDB names no program: run tests/run, which sets it";
    server_.emplace();
  }
  std::unique_ptr<Records> open(const TemporaryDirectory& directory, std::chrono::milliseconds lease = 60s,
                                const Patience& patience = {}) {
    return open_mongodb_records(directory.path(), {server_->uri("alnair_test"), lease}, patience);
  }
  MongoDatabase database() { return {server_->uri("alnair_test"), 20s, 20s}; }

  std::optional<FerretDb> server_;
  TemporaryDirectory mine_, theirs_;
};

TEST_F(MongodbRecordsTest, DocumentsHaveTheFieldsThatOtherToolsRead) {
  const auto records = open(mine_);
  records->put_client({.name = "alice", .password = "hash", .s3_auth = "\xff", .domain = "team", .created_ms = 5});
  records->put_job(a_job("j1", "alice"));
  records->put_job(a_job("j1", "alice"));
  auto raw = database();
  const auto client = raw.find("Client").at(0);
  EXPECT_EQ(client.at("username"), "alice");
  EXPECT_EQ(client.at("status"), "enabled");
  EXPECT_EQ(client.at("jobs"), nlohmann::json::array({"j1"}));
  EXPECT_GT(client.at("lastHeartbeat"), 1'700'000'000'000);
  const auto job = raw.find("Job").at(0);
  EXPECT_EQ(job.at("meta").at("username"), "alice");
  EXPECT_EQ(job.at("meta").at("jobId"), "j1");
  EXPECT_EQ(job.at("meta").at("tokenTimeout"), 600);
  EXPECT_EQ(job.at("meta").at("datasource").at("bucket"), "pets");
  EXPECT_EQ(job.at("meta").at("resourceInfo"), R"({"gpus":8})");
  EXPECT_EQ(job.at("QoS"), (nlohmann::json{
                               {"UseCache", false}, {"MaxMemory", 17}, {"DurabilityInDisk", 60}, {"LazyLoading", false}}));
  EXPECT_EQ(job.at("policy"), (nlohmann::json{{"createTime", 1'700'000'000'123}, {"chunkSize", 1 << 20}}));
  records->erase_job("j1");
  EXPECT_EQ(raw.find("Client").at(0).at("jobs"), nlohmann::json::array());
}

TEST_F(MongodbRecordsTest, ANewerVersionIsRefusedAndADamagedDocumentNamed) {
  open(mine_)->put_job(a_job("j1", "alice"));
  auto raw = database();
  raw.update("Job", {{"_id", "j1"}}, {{"$set", {{"QoS", 5}}}});
  EXPECT_THAT(error_of([&] { open(mine_)->jobs(); }), AllOf(HasSubstr("collection Job"), HasSubstr("damaged")));
  raw.put("Manager", {{"_id", "schema"}, {"version", 99}});
  EXPECT_THAT(error_of([&] { open(mine_); }), AllOf(HasSubstr("is of version 99"), HasSubstr("MongoDB at 127.0.0.1")));
}

TEST_F(MongodbRecordsTest, AnotherManagersLeaseIsRespectedAndTakenWhenItEnds) {
  auto first = open(mine_, 6s);
  EXPECT_THAT(error_of([&] { open(theirs_, 6s); }), AllOf(HasSubstr("Another manager"), HasSubstr("standby = true")));
  int asked = 0;
  EXPECT_THAT(error_of([&] { open(theirs_, 6s, [&] { return ++asked < 3; }); }), HasSubstr("Another manager"));
  first->put_session({"t", "alice"});
  std::atomic<bool> waiting{false};
  auto second = std::async(std::launch::async, [&] { return open(theirs_, 6s, [&] { return waiting = true; }); });
  while (!waiting) std::this_thread::sleep_for(1ms);
  first.reset();  // gives it back
  EXPECT_THAT(second.get()->sessions(), ElementsAre(SessionRecord{"t", "alice"}));
}

TEST_F(MongodbRecordsTest, AManagerThatComesBackGoesOnAtOnce) {
  // A process that was killed leaves its lease; who has its directory's lock knows that it has ended.
  { std::ofstream(mine_ / "manager.id") << "abc\n"; }
  chmod((mine_ / "manager.id").c_str(), 0600);
  database().put("Manager", {{"_id", "lease"}, {"holder", "abc"}, {"host", "h"}, {"renewals", 7}});
  const auto records = open(mine_, 3600s);
  EXPECT_TRUE(records->held());
  records->put_session({"t", "alice"});
}

TEST_F(MongodbRecordsTest, ADatabaseThatIsAwayIsNamedAndUsedAgainWhenItIsBack) {
  const auto records = open(mine_, 6s);
  records->put_session({"t", "alice"});
  server_->kill();
  EXPECT_THAT(error_of([&] { records->put_session({"u", "alice"}); }), HasSubstr("MongoDB at 127.0.0.1:"));
  EXPECT_THAT(error_of([&] { open(theirs_, 3s); }), AllOf(HasSubstr("MongoDB at 127.0.0.1:"), HasSubstr("No suitable servers")));
  server_->start_again();
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (error_of([&] { records->put_session({"v", "alice"}); }) != "(no error)")
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  EXPECT_THAT(records->sessions(), ::testing::Contains(SessionRecord{"v", "alice"}));
  EXPECT_TRUE(records->held());
}

TEST(ScriptedMongodb, AStepDownIsSurvived) {
  ScriptedReplicaSet set;
  const TemporaryDirectory directory;
  const auto records = open_mongodb_records(directory.path(), {set.uri(), 60s});
  records->put_session({"t", "alice"});
  set.step_down();
  records->put_session({"u", "alice"});
  EXPECT_GE(set.refused(), 1);
  EXPECT_GE(set.writes_on(1), 1);
  EXPECT_THAT(records->sessions(), ElementsAre(SessionRecord{"t", "alice"}, SessionRecord{"u", "alice"}));
}

TEST(ScriptedMongodb, WhileThereIsNoPrimaryCallsFailInTimeAndThenGoOn) {
  ScriptedReplicaSet set;
  const TemporaryDirectory directory;
  const auto records = open_mongodb_records(directory.path(), {set.uri(), 6s});
  set.lose_primary();
  EXPECT_THAT(error_of([&] { records->put_session({"t", "alice"}); }), HasSubstr("MongoDB at 127.0.0.1:"));
  while (error_of([&] { records->check(); }) == "(no error)") std::this_thread::sleep_for(10ms);
  EXPECT_THAT(error_of([&] { records->put_session({"t", "alice"}); }), HasSubstr("has not answered for"));
  set.elect(1);
  while (error_of([&] { records->check(); }) != "(no error)") std::this_thread::sleep_for(10ms);
  records->put_session({"u", "alice"});
  EXPECT_THAT(records->sessions(), ElementsAre(SessionRecord{"u", "alice"}));
}

TEST(ScriptedMongodb, WhoeverHasLostTheLeaseWritesNothing) {
  ScriptedReplicaSet set;
  const TemporaryDirectory directory;
  const auto records = open_mongodb_records(directory.path(), {set.uri(), 6s});
  set.set("Manager", "lease", "holder", "another");
  while (records->held()) std::this_thread::sleep_for(10ms);
  EXPECT_THAT(error_of([&] { records->put_session({"t", "alice"}); }), HasSubstr("Another manager has taken"));
  EXPECT_THAT(records->sessions(), ElementsAre());
}

TEST(MongodbUri, WhatIsNoneIsAConfigError) {
  const TemporaryDirectory directory;
  for (const char* uri : {"http://x", "mongodb://", "mongodb://h:99999999"})
    EXPECT_THROW(open_mongodb_records(directory.path(), {uri}), ConfigError) << uri;
}

}  // namespace testing
}  // namespace alnair::manager
