// Clients, listings and jobs without HTTP: over real records and a source in memory, with a clock of the test's.
#include <gmock/gmock.h>

#include <functional>
#include <thread>

#include "alnair/core/error.h"
#include "core/wall_clock.h"
#include "manager/gated_source.h"
#include "manager/http/message.h"
#include "manager/service/jobs.h"
#include "support/temporary_directory.h"

namespace alnair::manager {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string problem_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Problem& problem) {
    return std::to_string(problem.status()) + " " + problem.type() + ": " + problem.what();
  }
  return "(no problem)";
}

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    for (int i = 0; i < 5; ++i) source_->put("train/" + std::to_string(i), "bytes");
    start();
    clients_->add("alice", "password-a", "");
    token_ = clients_->connect("alice", "password-a", S3Auth{{"ID", "SECRET", ""}, "", ""}, "peer");
  }
  ~ServiceTest() override { stop(); }

  void start() {
    const Clock clock = [this] { return now_; };
    records_ = open_sqlite_records(directory_.path());
    catalog_ = open_sqlite_catalog(directory_ / "catalog");
    clients_.emplace(*records_, *Sealer::from_hex(std::string(64, 'a')),
                     Clients::Options{.session_life = 100s, .max_clients = 3}, clock);
    listings_.emplace(
        catalog_, [this](const std::string&, const Datasource&) { return source_; }, 2);
    jobs_.emplace(*records_, *clients_, *listings_, nullptr, Jobs::Options{.token_life = 100s, .grace = 50s, .max_jobs = 200},
                  clock);
    jobs_->resume();
  }
  void stop() {
    listings_->stop();
    jobs_.reset();
    listings_.reset();
    clients_.reset();
    records_.reset();
    catalog_.reset();
  }
  RegisteredJob register_job(const std::string& name = "resnet", std::vector<std::string> keys = {"train/"}) {
    return jobs_->register_job("alice", {name, "node", "{}", {"pets", "pets", std::move(keys), "", ""}, {}});
  }
  JobView ended(const std::string& id) {
    for (int i = 0; i < 60'000 && jobs_->get(id).record.state == JobState::kListing; ++i)
      std::this_thread::sleep_for(1ms);
    return jobs_->get(id);
  }

  ::alnair::testing::TemporaryDirectory directory_;
  std::chrono::steady_clock::time_point now_{1000s};
  std::shared_ptr<GatedSource> source_ = std::make_shared<GatedSource>();
  std::unique_ptr<Records> records_;
  std::shared_ptr<Catalog> catalog_;
  std::optional<Clients> clients_;
  std::optional<Listings> listings_;
  std::optional<Jobs> jobs_;
  std::string token_;
};

TEST_F(ServiceTest, RegistrationsThatComeOneAfterTheOtherShareAListingHoweverShort) {
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) ids.push_back(register_job().job.record.id);
  for (const std::string& id : ids) EXPECT_EQ(ended(id).record.state, JobState::kReady);
  EXPECT_EQ(listings_->begun(), 1u);
  ended(register_job().job.record.id);
  EXPECT_EQ(listings_->begun(), 2u) << "who comes later sees what has changed since";
}

TEST_F(ServiceTest, ASessionLivesAsLongAsItIsUsed) {
  EXPECT_EQ(clients_->client_of(token_), "alice");
  now_ += 99s;
  EXPECT_EQ(clients_->client_of(token_), "alice");
  now_ += 99s;
  EXPECT_EQ(clients_->client_of(token_), "alice");
  now_ += 100s;
  EXPECT_EQ(clients_->client_of(token_), std::nullopt);
  EXPECT_THAT(records_->sessions(), SizeIs(1));
  clients_->sweep();
  EXPECT_THAT(records_->sessions(), IsEmpty());
  EXPECT_EQ(clients_->client_of("nonsense"), std::nullopt);
}

TEST_F(ServiceTest, SessionsAndCredentialsOutliveTheManagerAndTheirClockStartsAfresh) {
  stop();
  now_ += 3600s;
  start();
  EXPECT_EQ(clients_->client_of(token_), "alice");
  EXPECT_EQ(clients_->s3_auth("alice").credentials.secret_access_key, "SECRET");
  clients_->disconnect(token_);
  EXPECT_EQ(clients_->client_of(token_), std::nullopt);
}

TEST_F(ServiceTest, WrongPasswordsAreSlowedAndSayNothing) {
  const auto attempt = [&](const char* name) {
    return problem_of([&] { clients_->connect(name, "wrong", {}, "far"); });
  };
  EXPECT_EQ(attempt("alice"), "401 wrong-password: the name or the password is wrong");
  EXPECT_EQ(attempt("nobody"), "401 wrong-password: the name or the password is wrong");
  for (int i = 0; i < 4; ++i) attempt("alice");
  EXPECT_THAT(attempt("alice"), StartsWith("429 too-many-failures"));
  EXPECT_THAT(problem_of([&] { clients_->connect("alice", "password-a", {}, "far"); }), StartsWith("429"))
      << "the right one waits as well";
  EXPECT_EQ(problem_of([&] { clients_->connect("alice", "password-a", {}, "near"); }), "(no problem)");
  now_ += 1s;
  EXPECT_EQ(problem_of([&] { clients_->connect("alice", "password-a", {}, "far"); }), "(no problem)");
}

TEST_F(ServiceTest, ClientsAreAddedChangedAndRemoved) {
  EXPECT_THAT(problem_of([&] { clients_->add("alice", "password-b", ""); }), StartsWith("409"));
  clients_->add("bob", "password-b", "alice");
  EXPECT_EQ(clients_->domain_of("bob"), "alice");
  clients_->add("carol", "password-c", "");
  EXPECT_THAT(problem_of([&] { clients_->add("dave", "password-d", ""); }), StartsWith("429"));
  clients_->change("alice", "password-new", std::nullopt);
  EXPECT_EQ(clients_->client_of(token_), std::nullopt) << "a new password ends sessions";
  clients_->connect("alice", "password-new", {}, "peer");
  clients_->change("alice", std::nullopt, false);
  EXPECT_THAT(problem_of([&] { clients_->connect("alice", "password-new", {}, "peer"); }), StartsWith("403"));
  clients_->remove("alice");
  EXPECT_THAT(problem_of([&] { clients_->remove("alice"); }), StartsWith("404"));
  EXPECT_THAT(problem_of([&] { clients_->s3_auth("carol"); }), StartsWith("422 no-s3-credentials"));
}

TEST_F(ServiceTest, CredentialsAreSealedAgainUnderANewKey) {
  const auto fresh = *Sealer::from_hex(std::string(64, 'b'));
  EXPECT_EQ(clients_->reseal(fresh), 1u);
  EXPECT_EQ(clients_->s3_auth("alice").credentials.secret_access_key, "SECRET");
  EXPECT_TRUE(fresh.open(records_->clients().front().s3_auth, "s3:alice").has_value());
}

TEST_F(ServiceTest, AJobIsListedInTheBackground) {
  source_->closed = true;
  const RegisteredJob job = register_job();
  EXPECT_EQ(job.job.record.state, JobState::kListing);
  EXPECT_EQ(jobs_->job_of(job.token), job.job.record.id);
  source_->closed = false;
  const JobView ready = ended(job.job.record.id);
  EXPECT_EQ(ready.record.state, JobState::kReady) << ready.record.failure;
  EXPECT_EQ(ready.objects, 5u);
  EXPECT_EQ(ready.bytes, 25u);
  EXPECT_TRUE(catalog_->manifest_blob(ready.record.version).has_value());
  ASSERT_THAT(jobs_->datasets("alice"), SizeIs(1));
  EXPECT_THAT(jobs_->datasets("bob"), IsEmpty());
  EXPECT_EQ(records_->datasets().front().version, ready.record.version);
}

TEST_F(ServiceTest, RegistrationsOfOneDatasetAtOnceShareAListing) {
  source_->closed = true;
  std::vector<std::string> ids;
  for (int i = 0; i < 100; ++i) ids.push_back(register_job("job" + std::to_string(i)).job.record.id);
  source_->closed = false;
  for (const std::string& id : ids) EXPECT_EQ(ended(id).record.state, JobState::kReady);
  EXPECT_EQ(source_->lists(), 1);
  EXPECT_EQ(listings_->begun(), 1u);
}

TEST_F(ServiceTest, AFailedListingSaysWhy) {
  source_->failure = true;
  const JobView failed = ended(register_job().job.record.id);
  EXPECT_EQ(failed.record.state, JobState::kFailed);
  EXPECT_THAT(failed.record.failure, HasSubstr("ListObjectsV2 on pets was refused"));
}

TEST_F(ServiceTest, AnAcknowledgedRegistrationGoesOnAfterARestart) {
  source_->closed = true;
  const RegisteredJob job = register_job();
  stop();
  now_ += 3600s;
  source_->closed = false;
  start();
  EXPECT_EQ(ended(job.job.record.id).record.state, JobState::kReady);
  EXPECT_EQ(jobs_->job_of(job.token), job.job.record.id) << "an hour away ends no job";
}

TEST_F(ServiceTest, AJobWithoutHeartbeatsExpiresAndIsDeregisteredAfterItsGrace) {
  const RegisteredJob job = register_job();
  const std::string id = job.job.record.id;
  ended(id);
  now_ += 99s;
  jobs_->heartbeat(id, R"({"epoch":1})");
  now_ += 99s;
  EXPECT_EQ(jobs_->job_of(job.token), id);
  now_ += 1s;
  EXPECT_EQ(jobs_->job_of(job.token), std::nullopt);
  EXPECT_TRUE(jobs_->get(id).expired);
  jobs_->heartbeat(id, "");
  EXPECT_EQ(jobs_->job_of(job.token), id) << "its client has revived it";
  EXPECT_EQ(jobs_->get(id).report, R"({"epoch":1})");
  now_ += 149s;
  jobs_->sweep();
  EXPECT_EQ(jobs_->get(id).record.id, id);
  now_ += 1s;
  jobs_->sweep();
  EXPECT_THAT(problem_of([&] { jobs_->get(id); }), StartsWith("404 unknown-job"));
  EXPECT_THAT(records_->jobs(), IsEmpty());
}

TEST_F(ServiceTest, DeregisteringCancelsAListingThatNobodyWaitsFor) {
  source_->closed = true;
  const std::string first = register_job().job.record.id, second = register_job().job.record.id;
  jobs_->deregister(first, false);
  EXPECT_EQ(listings_->running(), 1u);
  jobs_->deregister(second, false);
  EXPECT_EQ(listings_->running(), 0u);
  EXPECT_THAT(problem_of([&] { jobs_->deregister(second, false); }), StartsWith("404"));
  source_->closed = false;
  EXPECT_EQ(ended(register_job().job.record.id).record.state, JobState::kReady) << "a later one is listed anew";
}

TEST_F(ServiceTest, ADatasetIsDeletedOnlyWhereNobodyElseUsesIt) {
  const std::string first = register_job().job.record.id, second = register_job().job.record.id;
  ended(first), ended(second);
  const std::string dataset = jobs_->get(first).record.dataset;
  jobs_->deregister(first, true);
  EXPECT_THAT(jobs_->dataset(dataset).jobs, ::testing::ElementsAre(second));
  EXPECT_THAT(problem_of([&] { jobs_->erase_dataset(dataset); }), StartsWith("409"));
  const std::int64_t later = milliseconds_now() + 3'600'000;
  jobs_->pin(dataset, later);
  jobs_->deregister(second, true);
  EXPECT_EQ(jobs_->dataset(dataset).record.pinned_until_ms, later) << "pinned: kept";
  const std::string third = register_job().job.record.id;
  ended(third);
  jobs_->pin(dataset, 5);  // long ago
  jobs_->deregister(third, true);
  EXPECT_THAT(records_->datasets(), IsEmpty());
}

TEST_F(ServiceTest, ThereAreOnlySoManyJobs) {
  source_->closed = true;
  for (int i = 0; i < 200; ++i) register_job();
  EXPECT_THAT(problem_of([&] { register_job(); }), StartsWith("429 too-many-jobs"));
}

TEST_F(ServiceTest, AClientWithoutS3CredentialsRegistersNothing) {
  clients_->add("bob", "password-b", "");
  EXPECT_THAT(problem_of([&] { jobs_->register_job("bob", {}); }), StartsWith("422 no-s3-credentials"));
  EXPECT_THAT(jobs_->list(""), IsEmpty());
}

TEST(DatasetId, DependsOnWhatIsReadAndByWhom) {
  const Datasource source{"n", "pets", {"a", "b"}, "", ""};
  EXPECT_EQ(dataset_id("alice", source), dataset_id("alice", {"other name", "pets", {"b", "a"}, "", ""}));
  EXPECT_NE(dataset_id("alice", source), dataset_id("bob", source));
  EXPECT_NE(dataset_id("alice", source), dataset_id("alice", {"n", "pets", {"ab"}, "", ""}));
  EXPECT_NE(dataset_id("alice", source), dataset_id("alice", {"n", "pets", {"a", "b"}, "http://x", ""}));
}

}  // namespace
}  // namespace alnair::manager
