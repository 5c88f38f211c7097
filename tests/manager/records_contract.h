// What every implementation of Records promises. A suite for one gives a Fixture with
//   static bool available();           // false: the tests are skipped
//   std::unique_ptr<Records> open();   // the same records each time; the one before has been destroyed
#pragma once

#include <gmock/gmock.h>

#include <optional>

#include "manager/records/records.h"

namespace alnair::manager {

inline bool operator==(const ClientRecord& a, const ClientRecord& b) {
  return a.name == b.name && a.password == b.password && a.s3_auth == b.s3_auth && a.domain == b.domain &&
         a.enabled == b.enabled && a.created_ms == b.created_ms && a.quota == b.quota;
}
inline bool operator==(const SessionRecord& a, const SessionRecord& b) {
  return a.token_hash == b.token_hash && a.client == b.client;
}

namespace testing {

inline JobRecord a_job(const std::string& id, const std::string& client) {
  JobRecord job;
  job.id = id;
  job.client = client;
  job.name = "resnet \"x\"\\";
  job.node = "n1";
  job.token_hash = std::string(64, 'f');
  job.redis_hash = std::string(64, 'a');
  job.earlier_redis_hashes = {std::string(64, 'b'), std::string(64, 'c')};
  job.resources = R"({"gpus":8})";
  job.dataset = "d1";
  job.datasource = {"pets", "pets", {"train/", "t\u00e4st"}, "http://127.0.0.1:9", "eu"};
  job.qos = {false, 17, 60, false};
  job.created_ms = 1'700'000'000'123;
  job.token_life_s = 600;
  job.chunk_size = 1 << 20;
  job.state = JobState::kFailed;
  job.version = std::string(64, '1');
  job.failure = "no";
  return job;
}

template <typename Fixture>
class RecordsContract : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Fixture::available()) GTEST_SKIP() << "the server for this is not there: run tests/run, which sets it up";
    fixture_.emplace();
  }
  std::unique_ptr<Records> open() { return fixture_->open(); }

 private:
  std::optional<Fixture> fixture_;
};
TYPED_TEST_SUITE_P(RecordsContract);

TYPED_TEST_P(RecordsContract, KeepsWhatWasPut) {
  const ClientRecord client{"alice", "scrypt$...", std::string("\0\xff sealed", 9), "team", false, 5, {1ull << 50, 7}};
  const SessionRecord session{std::string(64, 'a'), "alice"};
  DatasetRecord dataset{"d1", "alice", {"pets", "pets", {}, "", ""}, "v", 3, 1ull << 40, 7, 9};
  dataset.redis_bytes = 5;
  dataset.directory_bytes = 1ull << 40;
  dataset.looked_ms = 1'700'000'000'123;
  dataset.wanted = {"copy", "train/", {"a", "t\u00e4st"}, 1ull << 40};
  dataset.forgotten = true;
  dataset.use = {.reads = 10, .stalled_s = 0.25, .s3_requests = 3, .hits = {4, 3, 2, 1, 0.5}};
  {
    const auto records = this->open();
    records->put_client(client);
    records->put_session(session);
    records->put_job(a_job("j1", "alice"));
    records->put_dataset(dataset);
  }
  const auto records = this->open();
  EXPECT_THAT(records->clients(), ::testing::ElementsAre(client));
  EXPECT_THAT(records->sessions(), ::testing::ElementsAre(session));
  EXPECT_THAT(records->jobs(), ::testing::ElementsAre(a_job("j1", "alice")));
  EXPECT_THAT(records->datasets(), ::testing::ElementsAre(dataset));
}

TYPED_TEST_P(RecordsContract, ReplacesAndErases) {
  const auto records = this->open();
  JobRecord job = a_job("j1", "alice");
  records->put_job(job);
  job.state = JobState::kReady;
  job.failure.clear();
  records->put_job(job);
  EXPECT_THAT(records->jobs(), ::testing::ElementsAre(job));
  records->erase_job("j1");
  records->erase_job("j1");
  EXPECT_THAT(records->jobs(), ::testing::IsEmpty());
  records->put_session({"t", "alice"});
  records->erase_session("t");
  EXPECT_THAT(records->sessions(), ::testing::IsEmpty());
  records->put_dataset({.id = "d", .client = "alice"});
  records->erase_dataset("d");
  EXPECT_THAT(records->datasets(), ::testing::IsEmpty());
}

TYPED_TEST_P(RecordsContract, ErasesAClientWithAllThatIsItsOwn) {
  const auto records = this->open();
  for (const char* name : {"alice", "bob"}) {
    records->put_client({.name = name});
    records->put_session({std::string("t-") + name, name});
    records->put_job(a_job(std::string("j-") + name, name));
    records->put_dataset({.id = std::string("d-") + name, .client = name});
  }
  records->erase_client("alice");
  EXPECT_THAT(records->clients(), ::testing::ElementsAre(::testing::Field(&ClientRecord::name, "bob")));
  EXPECT_THAT(records->sessions(), ::testing::ElementsAre(SessionRecord{"t-bob", "bob"}));
  EXPECT_THAT(records->jobs(), ::testing::ElementsAre(a_job("j-bob", "bob")));
  EXPECT_THAT(records->datasets(), ::testing::ElementsAre(::testing::Field(&DatasetRecord::client, "bob")));
}

TYPED_TEST_P(RecordsContract, KeepsAFailureThatIsNoUtf8) {
  const auto records = this->open();
  JobRecord job = a_job("j1", "alice");
  job.failure = "the key caf\xe9 cannot be listed";
  records->put_job(job);
  EXPECT_EQ(records->jobs().at(0).failure, "the key caf\xef\xbf\xbd cannot be listed");
}

REGISTER_TYPED_TEST_SUITE_P(RecordsContract, KeepsWhatWasPut, ReplacesAndErases, ErasesAClientWithAllThatIsItsOwn,
                            KeepsAFailureThatIsNoUtf8);

}  // namespace testing
}  // namespace alnair::manager
