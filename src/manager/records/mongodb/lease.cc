#include "manager/records/mongodb/lease.h"

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/host.h"
#include "core/log.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr const char* kCollection = "Manager";
constexpr const char* kId = "lease";

}  // namespace

MongoLease::MongoLease(MongoDatabase& database, std::string holder, std::chrono::milliseconds length,
                       const Patience& patience)
    : database_(database), holder_(std::move(holder)), length_(length) {
  acquire(patience);
  const BlockSignals block;
  thread_ = std::thread([this] { renew(); });
}

MongoLease::~MongoLease() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
  try {
    database_.erase(kCollection, {{"_id", kId}, {"holder", holder_}});
  } catch (const CacheError& error) {  // it lapses
    log(LogLevel::kWarning, "the lease is not given back: {}", error.what());
  }
}

bool MongoLease::take(const json& seen) {
  renewed_ = Clock::now();
  if (seen.empty())
    return database_.insert(kCollection, {{"_id", kId}, {"holder", holder_}, {"host", host_name()}, {"renewals", 0}});
  const json filter = {{"_id", kId}, {"holder", seen.at("holder")}, {"renewals", seen.at("renewals")}};
  return database_.update(kCollection, filter,
                          {{"$set", {{"holder", holder_}, {"host", host_name()}}}, {"$inc", {{"renewals", 1}}}});
}

void MongoLease::acquire(const Patience& patience) {
  json seen;
  auto since = Clock::now();
  for (int changes = 0;; std::this_thread::sleep_for(std::min(length_ / 20, std::chrono::milliseconds(200)))) {
    const auto found = database_.find(kCollection, {{"_id", kId}});
    const json now = found.empty() ? json() : found.front();
    if (now != seen) {
      seen = now;
      since = Clock::now();
      ++changes;
    }
    const bool free = now.empty() || now.at("holder") == holder_ || Clock::now() - since >= length_;
    if (free && take(now)) return;
    const bool renewed = changes > 1;  // by somebody who lives
    if ((renewed && !patience) || (patience && !patience()))
      throw CacheError(fmt::format(
          "Another manager, on host {}, uses {}. With standby = true this one would wait for its end.",
          now.is_object() ? now.value("host", "unknown") : "unknown", database_.where()));
  }
}

void MongoLease::renew() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, length_ / 15, [&] { return ending_ || lost_; })) {
    lock.unlock();
    try {
      const auto start = Clock::now();
      if (database_.update(kCollection, {{"_id", kId}, {"holder", holder_}}, {{"$inc", {{"renewals", 1}}}}))
        renewed_ = start;
      else
        lost_ = true;
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "the lease is not renewed for now: {}", error.what());
    }
    lock.lock();
  }
}

void MongoLease::check() const {
  if (lost_) throw CacheError(fmt::format("Another manager has taken {} over.", database_.where()));
  const auto age = Clock::now() - renewed_.load();
  if (age > length_ / 3)
    throw CacheError(fmt::format("{} has not answered for {} s.", database_.where(),
                                 std::chrono::duration_cast<std::chrono::seconds>(age).count()));
}

}  // namespace alnair::manager
