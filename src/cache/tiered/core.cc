#include "cache/tiered/core.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <utility>

#include "cache/lock_file.h"

namespace alnair {
namespace {

using Clock = std::chrono::steady_clock;

// How often those who wait for another process look again, and when they stop believing in it (it may be stopped
// with SIGSTOP, holding its locks).
constexpr auto kPoll = std::chrono::milliseconds(2);
constexpr auto kPatience = std::chrono::seconds(60);

std::vector<ContentHash> hashes_of(const Flights& flights) {
  std::vector<ContentHash> hashes;
  hashes.reserve(flights.size());
  for (const auto& flight : flights) hashes.push_back(*flight->hash);
  return hashes;
}

std::uint64_t lock_of(const Flight& flight) {
  return lock_offset(LockPurpose::kSingleFlight, first64(flight.read.id));
}

// Tiers check bytes against the hash; whether the hash is this chunk's is known only by what wrote it down.
bool is_whole(const Flight& flight, const std::optional<View>& view) {
  return view && view->size() == flight.read.length;
}

}  // namespace

TieredCache::Core::Core(Options options)
    : options_(std::move(options)),
      filler_({.memory = options_.memory,
               .tiers = options_.keep ? options_.lower : std::vector<std::shared_ptr<Tier>>{},
               .limit = options_.fill_queue_bytes,
               .patient_limit = options_.fill_patient_bytes}),
      landing_([this](std::span<Arrival> arrivals) { take(arrivals); }, options_.landing_bytes) {}

void TieredCache::Core::fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done) {
  const auto shared_done = std::make_shared<const Done>(std::move(done));
  Flights known, unknown;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      FlightPtr& flight = flights_[chunks[i].id];
      if (flight == nullptr) {
        flight = std::make_shared<Flight>();
        flight->read = chunks[i];
        flight->origin = origin;
        flight->started = Clock::now();
        unknown.push_back(flight);
      }
      flight->waiters.push_back({shared_done, i, origin, chunks[i]});
    }
  }
  for (auto& flight : unknown)
    if ((flight->hash = origin->known_hash(flight->read))) known.push_back(std::move(flight));
  std::erase(unknown, nullptr);
  Flights found = look_up(*origin, unknown);
  settle_from_memory(std::move(found), known);
  ask_lower(0, std::move(known));
  claim(std::move(unknown));
}

void TieredCache::Core::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (poller_.joinable()) poller_.join();
  landing_.stop();
}

Flights TieredCache::Core::look_up(ChunkOrigin& origin, Flights& unknown) {
  Flights found;
  if (unknown.empty()) return found;
  std::vector<ChunkRead> reads;
  reads.reserve(unknown.size());
  for (const auto& flight : unknown) reads.push_back(flight->read);
  std::vector<std::optional<ContentHash>> hashes(reads.size());
  origin.find_hashes(reads, hashes);
  for (std::size_t i = 0; i < hashes.size(); ++i)
    if ((unknown[i]->hash = hashes[i])) found.push_back(std::move(unknown[i]));
  std::erase(unknown, nullptr);
  return found;
}

void TieredCache::Core::ask_lower(std::size_t tier, Flights flights) {
  if (flights.empty()) return;
  if (tier == options_.lower.size()) return claim(std::move(flights));
  struct Asked {
    Flights flights;
    std::atomic<std::size_t> left;
    std::mutex mutex;
    Flights missed;
  };
  const auto asked = std::make_shared<Asked>();
  asked->flights = std::move(flights);
  asked->left = asked->flights.size();
  const auto hashes = hashes_of(asked->flights);
  options_.lower[tier]->get(hashes, [self = shared_from_this(), asked, tier](std::size_t i, std::optional<View> view) {
    const FlightPtr& flight = asked->flights[i];
    if (is_whole(*flight, view)) {
      self->landing_.add({{.flight = flight, .bytes = std::move(*view), .hashed = true}});
    } else {
      const std::lock_guard lock(asked->mutex);
      asked->missed.push_back(flight);
    }
    if (--asked->left == 0) self->ask_lower(tier + 1, std::move(asked->missed));
  });
}

void TieredCache::Core::claim(Flights flights) {
  Flights mine, again, others;
  for (auto& flight : flights) {
    if (flight->locked) {
      mine.push_back(std::move(flight));
    } else if (try_lock(*flight)) {
      // The last holder may have finished between our look and our lock.
      (look_again(*flight) ? again : mine).push_back(std::move(flight));
    } else {
      others.push_back(std::move(flight));
    }
  }
  if (!others.empty()) wait_for_others(std::move(others));
  settle_from_memory(std::move(again), mine);
  fetch_from_source(std::move(mine));
}

bool TieredCache::Core::try_lock(Flight& flight) {
  flight.locked = options_.locks == nullptr || options_.locks->try_lock_exclusive(lock_of(flight));
  return flight.locked;
}

void TieredCache::Core::unlock(Flight& flight) {
  if (flight.locked && options_.locks != nullptr) options_.locks->unlock(lock_of(flight));
  flight.locked = false;
}

bool TieredCache::Core::look_again(Flight& flight) {
  if (const auto hash = flight.origin->known_hash(flight.read)) flight.hash = hash;
  return flight.hash.has_value();
}

void TieredCache::Core::settle_from_memory(Flights flights, Flights& missed) {
  if (flights.empty()) return;
  std::vector<std::optional<View>> views(flights.size());
  if (options_.memory != nullptr)  // get() answers before it returns in node memory
    options_.memory->get(hashes_of(flights),
                         [&views](std::size_t i, std::optional<View> view) { views[i] = std::move(view); });
  std::vector<Arrival> present;
  for (std::size_t i = 0; i < flights.size(); ++i) {
    if (is_whole(*flights[i], views[i]))
      present.push_back({.flight = std::move(flights[i]), .bytes = std::move(*views[i])});
    else
      missed.push_back(std::move(flights[i]));
  }
  land(present);
}

void TieredCache::Core::wait_for_others(Flights flights) {
  {
    const std::lock_guard lock(mutex_);
    std::move(flights.begin(), flights.end(), std::back_inserter(waiting_));
    if (!poller_.joinable() && !stopping_) poller_ = std::thread([this] { poll(); });
  }
  wake_.notify_one();
}

void TieredCache::Core::poll() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (waiting_.empty()) {
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      continue;
    }
    wake_.wait_for(lock, kPoll, [&] { return stopping_; });
    Flights flights = std::exchange(waiting_, {});
    lock.unlock();
    look_at(std::move(flights));
    lock.lock();
  }
}

void TieredCache::Core::look_at(Flights flights) {
  Flights known, missed, turn;
  for (auto& flight : flights) (look_again(*flight) ? known : missed).push_back(std::move(flight));
  settle_from_memory(std::move(known), missed);
  const auto now = Clock::now();
  Flights still;
  for (auto& flight : missed) {
    if (try_lock(*flight) || now - flight->started > kPatience)
      turn.push_back(std::move(flight));
    else
      still.push_back(std::move(flight));
  }
  {
    const std::lock_guard lock(mutex_);
    std::move(still.begin(), still.end(), std::back_inserter(waiting_));
  }
  // The lock's last holder may have filled in between: once more, now that nobody else can.
  Flights mine, again;
  for (auto& flight : turn) (look_again(*flight) ? again : mine).push_back(std::move(flight));
  settle_from_memory(std::move(again), mine);
  fetch_from_source(std::move(mine));
}

}  // namespace alnair
