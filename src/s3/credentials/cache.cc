#include "s3/credentials/cache.h"

#include <algorithm>
#include <future>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/log.h"

namespace alnair {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// Refreshed this long before expiry, or a quarter of the lifetime if that is shorter; a random half of it
// earlier.
constexpr milliseconds kRefreshMargin = minutes(10);
// Not used when less is left, or a tenth of the lifetime if that is shorter: a request takes a moment to
// arrive.
constexpr milliseconds kUnusableMargin = minutes(1);
// After a failed refresh, and for credentials that come expired (the clock may be off: let the server judge).
constexpr milliseconds kRetryDelay = seconds(30);

enum class Freshness { kUnusable, kDue, kFresh };

}  // namespace

struct CredentialCache::State {
  Load load;  // empty: fixed credentials
  std::function<SystemTime()> now;
  Random random;

  std::mutex mutex;  // guards all below
  std::shared_ptr<const LoadedCredentials> current;  // null: none
  SystemTime refresh_at = SystemTime::max();  // from here on a load is due, while `current` stays in use
  SystemTime unusable_at = SystemTime::max();
  std::vector<Done> waiting;
  std::thread thread;
  bool running = false;  // the thread will look at load_wanted again
  bool load_wanted = false;
  bool stopping = false;

  // All with the mutex held.
  Freshness freshness() const {
    if (!current) return Freshness::kUnusable;
    if (refresh_at == SystemTime::max()) return Freshness::kFresh;
    const SystemTime time = now();
    if (time >= unusable_at) return Freshness::kUnusable;
    return time >= refresh_at ? Freshness::kDue : Freshness::kFresh;
  }
  void accept(LoadedCredentials loaded);
  void postpone(const std::exception_ptr& error);
};

void CredentialCache::State::accept(LoadedCredentials loaded) {
  current = std::make_shared<const LoadedCredentials>(std::move(loaded));
  refresh_at = unusable_at = SystemTime::max();
  log(LogLevel::kInfo, "loaded credentials (key id {}) from {}", current->keys.access_key_id,
      current->origin);
  if (!current->expires) return;
  const auto lifetime = duration_cast<milliseconds>(*current->expires - now());
  if (lifetime <= milliseconds(0)) {
    refresh_at = now() + kRetryDelay;
    return;
  }
  const milliseconds margin = std::min(kRefreshMargin, lifetime / 4);
  refresh_at = *current->expires - margin - duration_cast<milliseconds>(margin * (0.5 * random()));
  unusable_at = *current->expires - std::min(kUnusableMargin, lifetime / 10);
}

// A load failed: what is still usable stays in use.
void CredentialCache::State::postpone(const std::exception_ptr& error) {
  if (freshness() == Freshness::kUnusable || stopping) return;  // whoever waits gets the error
  refresh_at = now() + kRetryDelay + duration_cast<milliseconds>(kRetryDelay * random());
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& failure) {
    log(LogLevel::kWarning,
        "refreshing the credentials failed; the present ones stay in use until they expire: {}",
        failure.what());
  }
}

CredentialCache::CredentialCache(Load load, std::function<SystemTime()> now, Random random)
    : state_(std::make_shared<State>()) {
  state_->load = std::move(load);
  state_->now = std::move(now);
  state_->random = std::move(random);
}

CredentialCache::CredentialCache(S3Credentials fixed) : state_(std::make_shared<State>()) {
  state_->current = std::make_shared<const LoadedCredentials>(LoadedCredentials{std::move(fixed), std::nullopt, "the options"});
}

CredentialCache::~CredentialCache() {
  std::thread thread;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    thread.swap(state_->thread);
  }
  if (!thread.joinable()) return;
  if (thread.get_id() == std::this_thread::get_id())
    thread.detach();  // destroyed by a `done`; the thread ends by itself
  else
    thread.join();
}

void CredentialCache::get(Done done) {
  std::unique_lock lock(state_->mutex);
  const Freshness freshness = state_->freshness();
  std::shared_ptr<const LoadedCredentials> usable;
  if (freshness == Freshness::kUnusable)
    state_->waiting.push_back(done);
  else
    usable = state_->current;
  if (freshness != Freshness::kFresh) {
    state_->load_wanted = true;
    if (!state_->running) {
      if (state_->thread.joinable()) state_->thread.join();  // it has nothing left to do but to end
      const BlockSignals block;
      try {
        state_->thread = std::thread([state = state_] { run(state); });
        state_->running = true;
      } catch (const std::system_error&) {
        if (!usable) {
          state_->waiting.pop_back();
          lock.unlock();
          const SourceError error("The system refuses to start a thread for loading credentials.");
          return done({}, std::make_exception_ptr(error));
        }
      }
    }
  }
  lock.unlock();
  if (usable) done(usable->keys, nullptr);
}

S3Credentials CredentialCache::get(const Interrupt& interrupt) {
  auto outcome = std::make_shared<std::promise<S3Credentials>>();  // outlives a wait that is abandoned
  std::future<S3Credentials> future = outcome->get_future();
  get([outcome](const S3Credentials& credentials, std::exception_ptr error) {
    if (error)
      outcome->set_exception(std::move(error));
    else
      outcome->set_value(credentials);
  });
  while (future.wait_for(milliseconds(100)) != std::future_status::ready)
    if (interrupt) interrupt();
  return future.get();
}

void CredentialCache::reject(std::string_view access_key_id) {
  const std::lock_guard lock(state_->mutex);
  if (state_->load && state_->current && state_->current->keys.access_key_id == access_key_id)
    state_->current = nullptr;
}

void CredentialCache::run(const std::shared_ptr<State>& state) {
  const Interrupt interrupt = [&state] {
    const std::lock_guard lock(state->mutex);
    if (state->stopping) throw CancelledError("Loading credentials was cancelled.");
  };
  std::unique_lock lock(state->mutex);
  while (state->load_wanted) {
    lock.unlock();
    std::optional<LoadedCredentials> loaded;
    std::exception_ptr error;
    try {
      interrupt();
      loaded = state->load(interrupt);
    } catch (...) {
      error = std::current_exception();
    }
    const S3Credentials keys = loaded ? loaded->keys : S3Credentials{};

    lock.lock();
    state->load_wanted = false;
    if (loaded)
      state->accept(*std::move(loaded));
    else
      state->postpone(error);
    const std::vector<Done> waiting = std::exchange(state->waiting, {});
    lock.unlock();
    for (const Done& done : waiting) done(keys, error);
    lock.lock();
  }
  state->running = false;
}

}  // namespace alnair
