// Work on datasets whose manifest is not here: on the records of another host's manager, over a real shared directory and a
// source in memory, with a clock of the test's.
#include <gmock/gmock.h>

#include <filesystem>
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
using ::testing::AllOf;
using ::testing::HasSubstr;

class WorkTest : public ::testing::Test {
 protected:
  WorkTest() {
    std::filesystem::create_directory(directory_ / "records");
    std::filesystem::create_directory(directory_ / "backup");
    for (int i = 0; i < 5; ++i) source_->put("train/" + std::to_string(i), "bytes" + std::to_string(i));
    start("first");
    clients_->add("alice", "password-a", "");
    clients_->connect("alice", "password-a", S3Auth{{"ID", "SECRET", ""}, "", ""}, "peer");
    job_ = registered().id;
    dataset_ = jobs_->get(job_).record.dataset;
  }
  ~WorkTest() override { stop(); }

  // On that host: its manifests are its own, the records and the directory are everybody's.
  void start(const std::string& host) {
    const Clock clock = [this] { return now_.load(); };
    const auto open = [this](const std::string& client, const Datasource&) {
      clients_->s3_auth(client);
      return source_;
    };
    records_ = open_sqlite_records(directory_ / "records");
    catalog_ = open_sqlite_catalog(directory_ / host);
    clients_.emplace(*records_, *Sealer::from_hex(std::string(64, 'a')), Clients::Options{.session_life = 100s}, clock);
    listings_.emplace(catalog_, open, 2);
    cache_.emplace(JobCache::Options{.tiers = {.directory = directory_ / "backup"}}, catalog_, open,
                   [](const DatasetRecord&, const std::string&) { return std::string(); });
    jobs_.emplace(*records_, *clients_, *listings_, &*cache_, Jobs::Options{.token_life = 10'000s, .grace = 10'000s}, clock);
    jobs_->resume();
  }
  void stop() {
    listings_->stop();
    cache_->copies().stop();
    jobs_.reset();
    cache_.reset();
    listings_.reset();
    clients_.reset();
    records_.reset();
    catalog_.reset();
  }
  void take_over() {
    stop();
    start("second");
  }
  JobRecord registered() {
    const std::string id =
        jobs_->register_job("alice", {"resnet", "node", "{}", {"pets", "pets", {"train/"}, "", ""}, {}}).job.record.id;
    wait([&] { return jobs_->get(id).record.state == JobState::kReady; });
    return jobs_->get(id).record;
  }
  // What `work` waits for when its manager is killed: in the records, and not begun.
  void want(const WantedWork& work) {
    jobs_->deregister(job_, false);
    DatasetRecord record = jobs_->dataset(dataset_).record;
    record.wanted = work;
    stop();
    open_sqlite_records(directory_ / "records")->put_dataset(record);
  }
  void wait(const std::function<bool()>& condition) {
    for (int i = 0; i < 60'000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
    ASSERT_TRUE(condition());
  }
  std::optional<CopyStatus> copy() { return jobs_->dataset(dataset_).copy; }
  bool ended() { return copy() && !copy()->running; }
  WantedWork wanted() { return jobs_->dataset(dataset_).record.wanted; }

  ::alnair::testing::TemporaryDirectory directory_;
  std::atomic<std::chrono::steady_clock::time_point> now_{std::chrono::steady_clock::time_point(1000s)};
  std::shared_ptr<GatedSource> source_ = std::make_shared<GatedSource>();
  std::unique_ptr<Records> records_;
  std::shared_ptr<Catalog> catalog_;
  std::optional<Clients> clients_;
  std::optional<Listings> listings_;
  std::optional<JobCache> cache_;
  std::optional<Jobs> jobs_;
  std::string job_, dataset_;
};

TEST_F(WorkTest, ACopyGoesOnOnAnotherHostOnceTheDatasetIsListedThere) {
  want({.work = "copy", .prefix = "train/", .keys = {}, .bytes_per_s = 0});
  start("second");
  wait([&] { return ended() && wanted() == WantedWork(); });
  EXPECT_EQ(copy()->failure, "");
  EXPECT_EQ(copy()->copied_bytes, 30u);
  EXPECT_EQ(records_->datasets().front().wanted, WantedWork());
}

TEST_F(WorkTest, WhatHasChangedMeanwhileIsCopiedAsItIsNow) {
  const std::string before = jobs_->dataset(dataset_).record.version;
  want({.work = "copy", .prefix = "", .keys = {}, .bytes_per_s = 0});
  source_->put("train/5", "longer than the others");
  start("second");
  wait([&] { return ended() && wanted() == WantedWork(); });
  EXPECT_EQ(copy()->total_objects, 6u);
  EXPECT_NE(jobs_->dataset(dataset_).record.version, before);
  EXPECT_EQ(records_->datasets().front().objects, 6u);
}

TEST_F(WorkTest, WhileS3RefusesItSaysSoAndIsTriedAgain) {
  want({.work = "check", .prefix = "", .keys = {}, .bytes_per_s = 0});
  source_->failure = true;
  start("second");
  wait([&] { return copy() && !copy()->failure.empty(); });
  EXPECT_TRUE(copy()->running);
  EXPECT_EQ(copy()->failure, "ListObjectsV2 on pets was refused: AccessDenied (tried again in 1 s)");
  jobs_->sweep();
  EXPECT_THAT(copy()->failure, HasSubstr("in 1 s")) << "too early";
  now_.store(now_.load() + 1s);
  jobs_->sweep();
  wait([&] { return copy()->failure.find("in 2 s") != std::string::npos; });
  EXPECT_EQ(wanted().work, "check") << "it survives a kill";
  source_->failure = false;
  now_.store(now_.load() + 2s);
  jobs_->sweep();
  wait([&] { return ended() && wanted() == WantedWork(); });
  EXPECT_EQ(copy()->failure, "");
  EXPECT_EQ(copy()->objects, 5u);
}

TEST_F(WorkTest, ItIsGivenUpAfterAnHourOrTwoAndSaysWhy) {
  want({.work = "copy", .prefix = "", .keys = {}, .bytes_per_s = 0});
  source_->failure = true;
  start("second");
  for (int i = 0; i < 60'000 && !ended(); ++i) {
    now_.store(now_.load() + 300s);
    jobs_->sweep();
    std::this_thread::sleep_for(1ms);
  }
  wait([&] { return ended() && wanted() == WantedWork(); });
  EXPECT_THAT(copy()->failure, AllOf(HasSubstr("AccessDenied"), HasSubstr("(given up after 24 tries)")));
  source_->failure = false;
  jobs_->work(dataset_, {});
  wait([&] { return ended() && copy()->failure.empty(); });
  EXPECT_EQ(copy()->copied_bytes, 30u) << "whoever asks again begins afresh";
}

TEST_F(WorkTest, WhatWaitsCanBeCancelledAndKeepsOtherWorkOut) {
  want({.work = "copy", .prefix = "", .keys = {}, .bytes_per_s = 0});
  source_->failure = true;
  start("second");
  wait([&] { return copy() && !copy()->failure.empty(); });
  EXPECT_THROW(jobs_->work(dataset_, {.work = Work::kCheck}), Problem);
  EXPECT_EQ(wanted().work, "copy");
  jobs_->cancel_work(dataset_);
  EXPECT_FALSE(copy().has_value());
  EXPECT_EQ(records_->datasets().front().wanted, WantedWork());
  source_->failure = false;
  now_.store(now_.load() + 1h);
  jobs_->sweep();
  EXPECT_FALSE(copy().has_value());
  jobs_->work(dataset_, {.work = Work::kCheck});
  wait([&] { return ended() && copy()->objects == 5; });
}

TEST_F(WorkTest, WhatIsCollectedOnAnotherHostIsListedThereFirst) {
  jobs_->work(dataset_, {});
  wait([&] { return ended() && wanted() == WantedWork(); });
  jobs_->deregister(job_, false);
  DatasetRecord record = jobs_->dataset(dataset_).record;
  record.durability_minutes = 0;
  stop();
  open_sqlite_records(directory_ / "records")->put_dataset(record);
  start("second");
  EXPECT_THAT(jobs_->collect(), ::testing::ElementsAre(dataset_));
  EXPECT_EQ(records_->datasets().front().wanted.work, "evict") << "it survives a kill";
  wait([&] { return ended() && wanted() == WantedWork(); });
  EXPECT_EQ(copy()->work, Work::kEvict);
  EXPECT_TRUE(cache_->knows(record.version));
}

TEST_F(WorkTest, WhatHasJustBeenCopiedIsNotCollectedByTheNextManager) {
  jobs_->deregister(job_, false);
  DatasetRecord record = jobs_->dataset(dataset_).record;
  record.last_use_ms -= 2 * 1440 * 60'000ll;  // and is kept for a day
  stop();
  open_sqlite_records(directory_ / "records")->put_dataset(record);
  start("first");
  jobs_->work(dataset_, {});
  wait([&] { return ended() && wanted() == WantedWork(); });
  stop();
  start("first");
  EXPECT_THAT(jobs_->collect(), ::testing::IsEmpty());
}

TEST_F(WorkTest, WhatIsForgottenIsEvictedByAManagerOfAnotherHost) {
  jobs_->work(dataset_, {});
  wait([&] { return ended() && copy()->copied_bytes == 30; });
  jobs_->deregister(job_, false);
  DatasetRecord record = jobs_->dataset(dataset_).record;
  record.forgotten = true;
  record.wanted = {.work = "evict", .prefix = "", .keys = {}, .bytes_per_s = 0};
  stop();
  open_sqlite_records(directory_ / "records")->put_dataset(record);
  source_->failure = true;
  start("second");
  EXPECT_THROW(jobs_->dataset(dataset_), Problem);
  source_->failure = false;
  for (int i = 0; i < 60'000 && !records_->datasets().empty(); ++i) {
    now_.store(now_.load() + 300s);
    jobs_->sweep();
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_TRUE(records_->datasets().empty());
}

TEST_F(WorkTest, AnEvictionWaitsUntilWhatIsPinnedIsListedToo) {
  const std::string other =
      jobs_->register_job("alice", {"all", "node", "{}", {"pets", "pets", {}, "", ""}, {}}).job.record.dataset;
  wait([&] { return !jobs_->datasets("alice").back().record.version.empty() && jobs_->datasets("alice").size() == 2; });
  for (const JobView& job : jobs_->list("alice"))
    if (job.record.dataset == other) jobs_->deregister(job.record.id, false);
  jobs_->pin(other, milliseconds_now() + 3'600'000);
  want({.work = "evict", .prefix = "", .keys = {}, .bytes_per_s = 0});
  start("second");
  for (int i = 0; i < 60'000 && wanted() != WantedWork(); ++i) {
    now_.store(now_.load() + 1s);
    jobs_->sweep();
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(wanted(), WantedWork());
  EXPECT_EQ(copy()->failure, "");
  EXPECT_TRUE(cache_->knows(jobs_->dataset(other).record.version));
}

TEST_F(WorkTest, AJobThatWasReadyDoesNotFailBecauseS3IsAwayAtATakeover) {
  source_->failure = true;
  take_over();
  wait([&] { return !jobs_->get(job_).record.failure.empty(); });
  EXPECT_EQ(jobs_->get(job_).record.state, JobState::kListing);
  EXPECT_THAT(jobs_->get(job_).record.failure, HasSubstr("(tried again in 1 s)"));
  source_->failure = false;
  now_.store(now_.load() + 1s);
  jobs_->sweep();
  wait([&] { return jobs_->get(job_).record.state == JobState::kReady; });
  EXPECT_EQ(jobs_->get(job_).record.failure, "");
}

}  // namespace
}  // namespace alnair::manager
