#include "manager/service/listings.h"

#include <algorithm>
#include <utility>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "dataset/node.h"
#include "dataset/registration.h"

namespace alnair::manager {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Registrations that are sent at once arrive one after the other: a listing waits until so long nobody has joined it, at most so long.
constexpr std::chrono::milliseconds kGather{50}, kGatherAtMost{1'000};

}  // namespace

struct Listings::Listing {
  std::string client;
  Datasource datasource;
  std::map<std::string, Done> waiters;  // guarded by Listings::mutex_
  bool started = false;                 // likewise
  const SteadyClock::time_point asked = SteadyClock::now();
  SteadyClock::time_point joined = asked;  // by the last waiter; guarded by Listings::mutex_
  std::atomic<std::uint64_t> objects{0}, bytes{0};
  std::atomic<bool> cancelled{false};
};

Listings::Listings(std::shared_ptr<Catalog> catalog, OpenSource open_source, std::size_t threads)
    : catalog_(std::move(catalog)), open_source_(std::move(open_source)) {
  const BlockSignals block;
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Listings::~Listings() { stop(); }

void Listings::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [key, listing] : listings_) listing->cancelled = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Listings::start(const std::string& key, const std::string& waiter, const std::string& client,
                     const Datasource& datasource, Done done) {
  const std::lock_guard lock(mutex_);
  auto& listing = listings_[key];
  if (listing == nullptr || listing->cancelled) {
    listing = std::make_shared<Listing>();
    listing->client = client;
    listing->datasource = datasource;
    queue_.push_back(key);
    changed_.notify_all();
  }
  listing->waiters[waiter] = std::move(done);
  listing->joined = SteadyClock::now();
}

void Listings::forget(const std::string& key, const std::string& waiter) {
  const std::lock_guard lock(mutex_);
  const auto found = listings_.find(key);
  if (found == listings_.end() || found->second->waiters.erase(waiter) == 0 || !found->second->waiters.empty()) return;
  found->second->cancelled = true;
  listings_.erase(found);
}

ListingStatus Listings::status(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = listings_.find(key);
  if (found == listings_.end()) return {};
  ListingStatus status;
  status.objects = found->second->objects;
  status.bytes = found->second->bytes;
  return status;
}

std::uint64_t Listings::running() const {
  const std::lock_guard lock(mutex_);
  return listings_.size();
}

std::set<std::string> Listings::versions() const {
  std::set<std::string> versions;
  for (const ManifestRecord& record : catalog_->manifests()) versions.insert(record.version);
  return versions;
}

void Listings::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const std::string key = std::move(queue_.front());
    queue_.pop_front();
    const auto found = listings_.find(key);
    if (found == listings_.end() || std::exchange(found->second->started, true))
      continue;  // cancelled, or queued twice
    const std::shared_ptr<Listing> listing = found->second;
    const auto start = [&] { return std::min(listing->joined + kGather, listing->asked + kGatherAtMost); };
    while (!stopping_ && !listing->cancelled && SteadyClock::now() < start()) changed_.wait_until(lock, start());
    if (stopping_) return;
    lock.unlock();
    run(key, *listing);
    lock.lock();
  }
}

void Listings::run(const std::string& key, Listing& listing) {
  ++begun_;
  ListingStatus status;
  status.done = true;
  try {
    Node node;
    node.catalog = catalog_;
    const auto source = open_source_(listing.client, listing.datasource);
    const Registration registration = register_dataset(
        node, *source, {}, listing.datasource.keys,
        [&](std::uint64_t objects, std::uint64_t bytes) {
          listing.objects = objects;
          listing.bytes = bytes;
        },
        [&] {
          if (listing.cancelled) throw CancelledError("nobody waits for this listing any more");
        });
    status.version = registration.manifest->version();
    status.objects = registration.manifest->size();
    status.bytes = registration.manifest->total_bytes();
    status.warnings = registration.warnings;
    if (!catalog_->newest_manifest(registration.dataset)) throw CacheError("the manager's catalog keeps no manifest");
  } catch (const std::exception& error) {
    status.failure = error.what();
  }
  std::map<std::string, Done> waiters;
  {
    const std::lock_guard lock(mutex_);
    if (listing.cancelled) return;
    waiters = std::move(listing.waiters);
    listings_.erase(key);
  }
  for (const auto& [waiter, done] : waiters) done(status);
}

}  // namespace alnair::manager
