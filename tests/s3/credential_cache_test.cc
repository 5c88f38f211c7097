#include "s3/credentials/cache.h"

#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <thread>

#include "alnair/core/error.h"
#include "core/log.h"

namespace alnair {
namespace {

using std::chrono::seconds;

// A clock and a loader that the test controls.
class Loader {
 public:
  std::shared_ptr<CredentialCache> cache() {
    return std::make_shared<CredentialCache>([this](const Interrupt& interrupt) { return load(interrupt); },
                                             [this] { return SystemTime(seconds(now.load())); },
                                             [] { return 0.5; });
  }

  std::atomic<long> now{1'000'000};
  std::atomic<long> lifetime{3600};  // seconds; 0: they last
  std::atomic<bool> fail{false};
  std::atomic<bool> hold{false};  // loads wait until it is false, or interrupted
  std::atomic<int> loads{0}, ended{0};

 private:
  LoadedCredentials load(const Interrupt& interrupt) {
    const int number = ++loads;
    struct End {
      std::atomic<int>& count;
      ~End() { ++count; }
    } end{ended};
    while (hold) {
      interrupt();
      std::this_thread::yield();
    }
    if (fail) throw SourceError("no answer");
    LoadedCredentials loaded;
    loaded.keys.access_key_id = "K" + std::to_string(number);
    if (lifetime != 0) loaded.expires = SystemTime(seconds(now + lifetime));
    loaded.origin = "a test";
    return loaded;
  }
};

std::string key(CredentialCache& cache) { return cache.get(Interrupt()).access_key_id; }

// A refresh behind our back ends at some moment: asks until the new key is there.
void wait_for_key(CredentialCache& cache, const std::string& expected) {
  while (key(cache) != expected) std::this_thread::yield();
}

TEST(CredentialCache, LoadsOnceForManyWaiters) {
  Loader loader;
  loader.hold = true;
  const auto cache = loader.cache();
  std::vector<std::future<std::string>> waiters;
  for (int i = 0; i < 16; ++i) waiters.push_back(std::async(std::launch::async, [&] { return key(*cache); }));
  while (loader.loads == 0) std::this_thread::yield();
  loader.hold = false;
  for (auto& waiter : waiters) EXPECT_EQ(waiter.get(), "K1");
  EXPECT_EQ(loader.loads, 1);
}

TEST(CredentialCache, LoadsNothingBeforeItIsAsked) {
  Loader loader;
  const auto cache = loader.cache();
  EXPECT_EQ(loader.loads, 0);
}

TEST(CredentialCache, NeverRefreshesWhatLasts) {
  Loader loader;
  loader.lifetime = 0;
  const auto cache = loader.cache();
  EXPECT_EQ(key(*cache), "K1");
  loader.now += 10'000'000;
  EXPECT_EQ(key(*cache), "K1");
  CredentialCache fixed(S3Credentials{"FIXED", "s", ""});
  fixed.reject("FIXED");
  EXPECT_EQ(key(fixed), "FIXED");
}

TEST(CredentialCache, RefreshesAheadOfExpiryWhileThePresentOnesServe) {
  Loader loader;
  const auto cache = loader.cache();
  EXPECT_EQ(key(*cache), "K1");
  loader.now += 3600 - 13 * 60;  // due 10 minutes before the end, and (random 0.5) a quarter of that earlier
  EXPECT_EQ(key(*cache), "K1");
  EXPECT_EQ(loader.loads, 1);
  loader.hold = true;
  loader.now += 60;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(key(*cache), "K1");  // does not wait
  while (loader.loads < 2) std::this_thread::yield();
  loader.hold = false;
  wait_for_key(*cache, "K2");
  EXPECT_EQ(loader.loads, 2);
}

TEST(CredentialCache, WaitsWhenThePresentOnesAreAboutToExpire) {
  Loader loader;
  const auto cache = loader.cache();
  EXPECT_EQ(key(*cache), "K1");
  loader.now += 3600 - 59;
  EXPECT_EQ(key(*cache), "K2");
}

TEST(CredentialCache, KeepsThePresentOnesWhenARefreshFails) {
  std::atomic<int> warnings{0};
  set_log_sink([&](LogLevel level, std::string_view) { warnings += level == LogLevel::kWarning; });
  Loader loader;
  const auto cache = loader.cache();
  EXPECT_EQ(key(*cache), "K1");
  loader.fail = true;
  loader.now += 3600 - 10 * 60;
  EXPECT_EQ(key(*cache), "K1");
  while (warnings < 1) std::this_thread::yield();
  EXPECT_EQ(key(*cache), "K1");
  EXPECT_EQ(loader.loads, 2);  // not at once again
  loader.now += 46;
  EXPECT_EQ(key(*cache), "K1");
  while (warnings < 2) std::this_thread::yield();
  EXPECT_EQ(loader.loads, 3);
  loader.fail = false;
  loader.now += 46;
  wait_for_key(*cache, "K4");
  set_log_sink({});
}

TEST(CredentialCache, TellsAllWaitersOfAFailureAndTriesAgainLater) {
  Loader loader;
  loader.fail = true;
  const auto cache = loader.cache();
  EXPECT_THROW(key(*cache), SourceError);
  loader.fail = false;
  EXPECT_EQ(key(*cache), "K2");
}

TEST(CredentialCache, UsesCredentialsThatSeemExpiredAndLooksAgainSoon) {
  Loader loader;
  loader.lifetime = -100;  // the clock may be off: the server judges
  const auto cache = loader.cache();
  EXPECT_EQ(key(*cache), "K1");
  EXPECT_EQ(key(*cache), "K1");
  EXPECT_EQ(loader.loads, 1);
  loader.lifetime = 3600;
  loader.now += 31;
  EXPECT_EQ(key(*cache), "K1");
  wait_for_key(*cache, "K2");
}

TEST(CredentialCache, LoadsAnewWhatAServerRejects) {
  Loader loader;
  const auto cache = loader.cache();
  EXPECT_EQ(key(*cache), "K1");
  cache->reject("K1");
  EXPECT_EQ(key(*cache), "K2");
  cache->reject("K1");  // an old request's answer
  EXPECT_EQ(key(*cache), "K2");
  EXPECT_EQ(loader.loads, 2);
}

TEST(CredentialCache, LetsAnInterruptAbandonAWait) {
  Loader loader;
  loader.hold = true;
  const auto cache = loader.cache();
  struct Stop {};
  EXPECT_THROW(cache->get([] { throw Stop(); }), Stop);
  loader.hold = false;
  EXPECT_EQ(key(*cache), "K1");
}

TEST(CredentialCache, CancelsALoadWhenItIsDestroyed) {
  Loader loader;
  loader.hold = true;
  auto cache = loader.cache();
  std::promise<bool> cancelled;
  cache->get([&](const S3Credentials&, std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const CancelledError&) {
      cancelled.set_value(true);
    } catch (...) {
      cancelled.set_value(false);
    }
  });
  cache.reset();
  EXPECT_TRUE(cancelled.get_future().get());
}

TEST(CredentialCache, MayBeAskedAgainAndDestroyedByItsCallbacks) {
  Loader loader;
  loader.hold = true;
  auto cache = loader.cache();
  std::promise<std::string> again;
  std::promise<void> gone;
  cache->get([&, cache](const S3Credentials&, std::exception_ptr) {
    cache->reject("K1");
    cache->get([&](const S3Credentials& credentials, std::exception_ptr) {
      again.set_value(credentials.access_key_id);
    });
  });
  loader.hold = false;
  EXPECT_EQ(again.get_future().get(), "K2");
  cache->reject("K2");
  auto last = std::make_shared<std::shared_ptr<CredentialCache>>(std::move(cache));
  CredentialCache& asked = **last;
  std::thread([&, last] {
    asked.get([&, last](const S3Credentials&, std::exception_ptr) {
      last->reset();
      gone.set_value();
    });
  }).join();
  gone.get_future().get();
}

}  // namespace
}  // namespace alnair
