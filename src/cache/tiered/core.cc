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

// How often those who wait for another process look again.
constexpr auto kPoll = std::chrono::milliseconds(2);
constexpr auto kPollAbroad = std::chrono::milliseconds(20);  // whether it is time to ask for what another node fetches

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
      filler_(filling(options_.lower)),
      shared_filler_(filling(unpublished())),
      overflow_(options_.landing_bytes),
      landing_([this](std::span<Arrival> arrivals) { return take(arrivals); }, options_.landing_bytes) {}

void TieredCache::Core::fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done,
                              DatasetTag ahead) {
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
      flight->waiters.push_back({shared_done, i, origin, chunks[i], ahead});
    }
  }
  for (auto& flight : unknown)
    if ((flight->hash = origin->known_hash(flight->read))) known.push_back(std::move(flight));
  std::erase(unknown, nullptr);
  Flights found = look_up(*origin, unknown);
  settle_from_memory(std::move(found), known);
  ask(0, settle_from_process(std::move(known)), [this](Flights missed) { claim(std::move(missed)); });
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
  if (options_.cluster != nullptr) options_.cluster->close();
}

void TieredCache::Core::flush() {
  filler_.flush();
  shared_filler_.flush();
  if (options_.cluster != nullptr) options_.cluster->flush();
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

// What waits in node memory must be written before its turn to be evicted comes, also where several processes fill it.
Filler::Options TieredCache::Core::filling(std::vector<std::shared_ptr<Tier>> tiers) const {
  const std::uint64_t memory = options_.memory != nullptr ? options_.memory->usage().limit_bytes : 0;
  return {.memory = options_.memory,
          .tiers = options_.keep ? std::move(tiers) : std::vector<std::shared_ptr<Tier>>{},
          .limit = options_.fill_queue_bytes,
          .patient_limit = memory > 0 ? std::min(options_.fill_patient_bytes, memory / 4) : options_.fill_patient_bytes};
}

Flights TieredCache::Core::settle_from_process(Flights flights) {
  std::vector<Arrival> overflowed, on_its_way;
  const auto take = [](FlightPtr& flight, std::optional<View> view, std::vector<Arrival>& arrivals) {
    if (flight == nullptr || !is_whole(*flight, view)) return;
    arrivals.push_back({.flight = std::move(flight), .bytes = std::move(*view), .hashed = true});
  };
  for (FlightPtr& flight : flights) {
    const ContentHash hash = *flight->hash;
    take(flight, overflow_.find(hash), flight->read.once ? overflowed : on_its_way);
    take(flight, filler_.find(hash), on_its_way);
    take(flight, shared_filler_.find(hash), on_its_way);
  }
  std::erase(flights, nullptr);
  land(overflowed);
  if (!on_its_way.empty()) landing_.add(std::move(on_its_way));
  return flights;
}

void TieredCache::Core::consume(std::span<const ContentHash> hashes) {
  overflow_.drop(hashes);
  if (options_.memory != nullptr) options_.memory->consume(hashes);
}

Tier& TieredCache::Core::tier_at(std::size_t index) const {
  const std::size_t lower = options_.lower.size();
  return index < lower ? *options_.lower[index] : *options_.shared[index - lower];
}

std::vector<std::shared_ptr<Tier>> TieredCache::Core::unpublished() const {
  std::vector<std::shared_ptr<Tier>> tiers = options_.shared;
  std::erase_if(tiers, [this](const auto& tier) { return is_published(*tier); });
  return tiers;
}

// `missed` runs while this object lives: what is asked holds a share in it.
void TieredCache::Core::ask(std::size_t index, Flights flights, Continue missed) {
  if (flights.empty()) return;
  if (index == options_.lower.size() + options_.shared.size()) return missed(std::move(flights));
  struct Asked {
    Flights flights;
    Continue missed;
    std::atomic<std::size_t> left;
    std::mutex mutex;
    Flights without;
  };
  const auto asked = std::make_shared<Asked>();
  asked->flights = std::move(flights);
  asked->missed = std::move(missed);
  asked->left = asked->flights.size();
  const auto hashes = hashes_of(asked->flights);
  Tier& tier = tier_at(index);
  const bool publish = index >= options_.lower.size() && !is_published(tier);  // promotion
  tier.get(hashes, [self = shared_from_this(), asked, index, publish](std::size_t i, std::optional<View> view) {
    const FlightPtr& flight = asked->flights[i];
    if (is_whole(*flight, view)) {
      self->landing_.add({{.flight = flight, .bytes = std::move(*view), .hashed = true, .publish = publish}});
    } else {
      const std::lock_guard lock(asked->mutex);
      asked->without.push_back(flight);
    }
    if (--asked->left == 0) self->ask(index + 1, std::move(asked->without), std::move(asked->missed));
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
  if (!others.empty()) wait_for_others(std::move(others), waiting_);
  settle_from_memory(std::move(again), mine);
  drop_overtaken(mine);
  elect(std::move(mine));
}

bool TieredCache::Core::is_impatient(const Flight& flight) {
  constexpr auto kPatience = std::chrono::seconds(60);
  return Clock::now() - flight.started > kPatience;
}

LockFile* TieredCache::Core::lock_file_of(const Flight& flight) const {
  if (options_.locks.empty()) return nullptr;
  return options_.locks[static_cast<std::size_t>(flight.read.id.bytes.back()) % options_.locks.size()];
}

bool TieredCache::Core::try_lock(Flight& flight) {
  LockFile* const file = lock_file_of(flight);
  flight.locked = file == nullptr || file->try_lock_exclusive(lock_of(flight));
  return flight.locked;
}

void TieredCache::Core::unlock(Flight& flight) {
  LockFile* const file = lock_file_of(flight);
  if (flight.locked && file != nullptr) file->unlock(lock_of(flight));
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

// The chunk's lock is held: what counts arrivals does so before it gives the lock back.
void TieredCache::Core::drop_overtaken(Flights& flights) {
  std::vector<std::pair<FlightPtr, std::vector<Waiter>>> overtaken;
  {
    const std::lock_guard lock(mutex_);
    for (FlightPtr& flight : flights) {
      if (ahead_of(*flight) == 0 || flight->origin->arrivals(flight->read) == flight->read.arrivals) continue;
      flights_.erase(flight->read.id);
      overtaken.emplace_back(std::move(flight), std::move(flight->waiters));
    }
  }
  std::erase(flights, nullptr);
  for (auto& [flight, waiters] : overtaken) {
    unlock(*flight);
    for (const Waiter& waiter : waiters) (*waiter.done)(waiter.index, {}, nullptr);
  }
}

void TieredCache::Core::wait_for_others(Flights flights, Flights& where) {
  {
    const std::lock_guard lock(mutex_);
    std::move(flights.begin(), flights.end(), std::back_inserter(where));
    if (!poller_.joinable() && !stopping_) poller_ = std::thread([this] { poll(); });
  }
  wake_.notify_one();
}

void TieredCache::Core::poll() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (waiting_.empty() && abroad_.empty()) {
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty() || !abroad_.empty(); });
      continue;
    }
    wake_.wait_for(lock, waiting_.empty() ? kPollAbroad : kPoll, [&] { return stopping_; });
    Flights flights = std::exchange(waiting_, {});
    const auto due = std::partition(abroad_.begin(), abroad_.end(), [now = Clock::now()](const FlightPtr& flight) {
      return flight->next_look > now;
    });
    Flights abroad(std::make_move_iterator(due), std::make_move_iterator(abroad_.end()));
    abroad_.erase(due, abroad_.end());
    lock.unlock();
    look_at(std::move(flights));
    elect(std::move(abroad));
    lock.lock();
  }
}

void TieredCache::Core::look_at(Flights flights) {
  Flights known, missed, turn;
  for (auto& flight : flights) (look_again(*flight) ? known : missed).push_back(std::move(flight));
  settle_from_memory(std::move(known), missed);
  Flights still;
  for (auto& flight : missed) {
    if (try_lock(*flight) || is_impatient(*flight))
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
  drop_overtaken(mine);
  elect(std::move(mine));
}

}  // namespace alnair
