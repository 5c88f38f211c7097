// Lists datasets in the background, each with its client's credentials. Those who ask for the same dataset of the same
// client while it is being listed share one listing.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "alnair/catalog/catalog.h"
#include "alnair/source/object_source.h"
#include "manager/records/records.h"
#include "manager/service/clients.h"

namespace alnair::manager {

// How far a listing is. Once `done`, `version` is the manifest's, or `failure` says what went wrong.
struct ListingStatus {
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;
  bool done = false;
  std::string version;
  std::string failure;
  std::vector<std::string> warnings;
};

class Listings {
 public:
  using Done = std::function<void(const ListingStatus&)>;
  // Opens a client's bucket. Throws ConfigError, Problem. Tests give one of their own.
  using OpenSource = std::function<std::shared_ptr<ObjectSource>(const std::string& client, const Datasource&)>;

  Listings(std::shared_ptr<Catalog> catalog, OpenSource open_source, std::size_t threads);
  ~Listings();  // as stop()

  // Begins or joins the listing `key`, which starts a moment later, when nobody else has joined it; `done` runs once, on a thread of
  // this object, unless stop() or forget() comes first. `waiter` names who asks.
  void start(const std::string& key, const std::string& waiter, const std::string& client, const Datasource& datasource,
             Done done);
  // A listing that nobody waits for any more is cancelled.
  void forget(const std::string& key, const std::string& waiter);

  ListingStatus status(const std::string& key) const;  // of one in progress; else zeros
  std::uint64_t running() const;
  std::set<std::string> versions() const;  // whose manifests the catalog keeps
  std::uint64_t begun() const { return begun_; }

  void stop();  // cancels all; no `done` runs after it has returned

 private:
  struct Listing;
  void work();
  void run(const std::string& key, Listing& listing);

  const std::shared_ptr<Catalog> catalog_;
  const OpenSource open_source_;
  std::atomic<std::uint64_t> begun_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::map<std::string, std::shared_ptr<Listing>> listings_;  // waiting and running
  std::deque<std::string> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace alnair::manager
