#include "cache/tiered/tiered_cache.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "cache/lock_file.h"
#include "cache/tiered/filler.h"
#include "core/log.h"
#include "core/metrics.h"

namespace alnair {
namespace {

using Clock = std::chrono::steady_clock;

// How often those who wait for another process look again, and when they stop believing in it (it may be stopped
// with SIGSTOP, holding its locks).
constexpr auto kPoll = std::chrono::milliseconds(2);
constexpr auto kPatience = std::chrono::seconds(60);

struct Waiter {
  std::shared_ptr<const TieredCache::Done> done;
  std::size_t index;
  std::shared_ptr<ChunkOrigin> origin;
  ChunkRead read;
};

// A chunk on its way. Only the thread that currently moves it along touches `hash` and `locked`; `waiters` are
// guarded by Core::mutex_.
struct Flight {
  ChunkRead read;
  std::shared_ptr<ChunkOrigin> origin;
  std::optional<ContentHash> hash;
  bool locked = false;
  Clock::time_point started;
  std::vector<Waiter> waiters;
};
using FlightPtr = std::shared_ptr<Flight>;
using Flights = std::vector<FlightPtr>;

std::vector<ContentHash> hashes_of(const Flights& flights) {
  std::vector<ContentHash> hashes;
  hashes.reserve(flights.size());
  for (const auto& flight : flights) hashes.push_back(*flight->hash);
  return hashes;
}

}  // namespace

class TieredCache::Core : public std::enable_shared_from_this<Core> {
 public:
  explicit Core(Options options)
      : options_(std::move(options)),
        filler_(options_.keep ? options_.lower : std::vector<std::shared_ptr<Tier>>{}, options_.fill_queue_bytes) {}

  void fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done) {
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
    for (auto& flight : unknown) {
      flight->hash = origin->known_hash(flight->read);
      if (flight->hash) known.push_back(std::move(flight));
    }
    std::erase(unknown, nullptr);
    ask_lower(0, std::move(known));
    claim(std::move(unknown));
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (poller_.joinable()) poller_.join();
  }

  const Options& options() const { return options_; }
  Filler& filler() { return filler_; }

 private:
  // Step 2: asks the lower tiers from `tier` on; what none of them has is claimed.
  void ask_lower(std::size_t tier, Flights flights) {
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
        self->keep_in_memory(*flight, *view);
        self->land(flight, std::move(*view));
      } else {
        const std::lock_guard lock(asked->mutex);
        asked->missed.push_back(flight);
      }
      if (--asked->left == 0) self->ask_lower(tier + 1, std::move(asked->missed));
    });
  }

  // Step 3: who gets the lock fetches; the others wait for it.
  void claim(Flights flights) {
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

  bool try_lock(Flight& flight) {
    flight.locked = options_.locks == nullptr || options_.locks->try_lock_exclusive(lock_of(flight));
    return flight.locked;
  }

  static std::uint64_t lock_of(const Flight& flight) {
    return lock_offset(LockPurpose::kSingleFlight, first64(flight.read.id));
  }

  void unlock(Flight& flight) {
    if (flight.locked && options_.locks != nullptr) options_.locks->unlock(lock_of(flight));
    flight.locked = false;
  }

  // Whether the chunk's hash is known by now.
  static bool look_again(Flight& flight) {
    if (const auto hash = flight.origin->known_hash(flight.read)) flight.hash = hash;
    return flight.hash.has_value();
  }

  // Lands the flights whose chunk is in node memory; the others are appended to `missed`.
  void settle_from_memory(Flights flights, Flights& missed) {
    if (flights.empty()) return;
    std::vector<std::optional<View>> views(flights.size());
    if (options_.memory != nullptr)  // get() answers before it returns in node memory
      options_.memory->get(hashes_of(flights),
                           [&views](std::size_t i, std::optional<View> view) { views[i] = std::move(view); });
    for (std::size_t i = 0; i < flights.size(); ++i) {
      if (is_whole(*flights[i], views[i]))
        land(flights[i], std::move(*views[i]));
      else
        missed.push_back(std::move(flights[i]));
    }
  }

  void wait_for_others(Flights flights) {
    {
      const std::lock_guard lock(mutex_);
      std::move(flights.begin(), flights.end(), std::back_inserter(waiting_));
      if (!poller_.joinable() && !stopping_) poller_ = std::thread([this] { poll(); });
    }
    wake_.notify_one();
  }

  void poll() {
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

  void look_at(Flights flights) {
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

  // Tiers check bytes against the hash; whether the hash is this chunk's is known only by what wrote it down.
  static bool is_whole(const Flight& flight, const std::optional<View>& view) {
    return view && view->size() == flight.read.length;
  }

  // Step 4. Neighbouring chunks of an object travel in one request.
  void fetch_from_source(Flights flights) {
    std::size_t begin = 0;
    while (begin < flights.size()) {
      const Flight& first = *flights[begin];
      std::uint64_t length = first.read.length;
      std::size_t end = begin + 1;
      while (end < flights.size()) {
        const Flight& next = *flights[end];
        if (next.origin != first.origin || next.read.object_index != first.read.object_index ||
            next.read.offset != first.read.offset + length || length + next.read.length > options_.max_read_bytes)
          break;
        length += next.read.length;
        ++end;
      }
      ReadRequest request{first.origin->object(first.read.object_index), first.read.offset, length};
      auto group = std::make_shared<Flights>(std::make_move_iterator(flights.begin() + static_cast<std::ptrdiff_t>(begin)),
                                             std::make_move_iterator(flights.begin() + static_cast<std::ptrdiff_t>(end)));
      const auto started = Clock::now();
      ObjectSource& source = group->front()->origin->source();
      source.read(std::move(request), [self = shared_from_this(), group, started](ReadResult result) {
        metrics().record_latency(TierId::kSource, Clock::now() - started);
        self->fetched(*group, std::move(result));
      });
      begin = end;
    }
  }

  void fetched(Flights& group, ReadResult result) {
    if (result.error) {
      metrics().add(Counter::kSourceErrors);
      for (auto& flight : group) fail(flight, result.error);
      return;
    }
    std::uint64_t position = 0;
    for (auto& flight : group) {
      View chunk = result.bytes.part(position, flight->read.length);
      position += flight->read.length;
      metrics().add(TierId::kSource, TierCounter::kHits);
      metrics().add(TierId::kSource, TierCounter::kHitBytes, chunk.size());
      flight->hash = content_hash(chunk.bytes());
      const bool kept = keep_in_memory(*flight, chunk);
      if (options_.keep && (!kept || flight->origin->fits_lower_tiers()))
        filler_.add({.hash = *flight->hash, .bytes = chunk, .dataset = flight->origin->tag(), .transit = false});
      land(flight, std::move(chunk));
    }
  }

  // Where the policy gives no room, the transit area takes what will be read soon. False: it is not there to stay.
  bool keep_in_memory(const Flight& flight, const View& bytes) {
    if (options_.memory == nullptr) return false;
    PutRequest request{.hash = *flight.hash, .bytes = bytes, .dataset = flight.origin->tag(), .transit = !options_.keep};
    PutOutcome outcome = PutOutcome::kRefused;
    options_.memory->put({&request, 1}, {&outcome, 1});
    if (request.transit) return false;
    if (outcome != PutOutcome::kRefused) return true;
    request.transit = true;
    options_.memory->put({&request, 1}, {});
    return false;
  }

  void land(const FlightPtr& flight, View bytes) {
    for (const Waiter& waiter : close(flight, true)) (*waiter.done)(waiter.index, bytes, nullptr);
  }

  void fail(const FlightPtr& flight, const std::exception_ptr& error) {
    for (const Waiter& waiter : close(flight, false)) (*waiter.done)(waiter.index, {}, error);
  }

  // Ends a flight: from here on, who asks for the chunk starts a new one, and should know the hash by then.
  std::vector<Waiter> close(const FlightPtr& flight, bool learned) {
    if (learned) flight->origin->learned_hash(flight->read, *flight->hash);
    std::vector<Waiter> waiters;
    {
      const std::lock_guard lock(mutex_);
      waiters = std::move(flight->waiters);
      flights_.erase(flight->read.id);
    }
    if (learned)
      for (const Waiter& waiter : waiters)
        if (waiter.origin != flight->origin) waiter.origin->learned_hash(waiter.read, *flight->hash);
    unlock(*flight);
    return waiters;
  }

  const Options options_;
  Filler filler_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<ChunkId, FlightPtr> flights_;
  Flights waiting_;  // for another process
  bool stopping_ = false;
  std::thread poller_;
};

TieredCache::TieredCache(Options options) : core_(std::make_shared<Core>(std::move(options))) {}
TieredCache::~TieredCache() { core_->stop(); }

void TieredCache::find_in_memory(std::span<const ContentHash> hashes, const Tier::Found& found) {
  if (core_->options().memory != nullptr) return core_->options().memory->get(hashes, found);
  for (std::size_t i = 0; i < hashes.size(); ++i) found(i, std::nullopt);
}

bool TieredCache::in_memory(const ContentHash& hash) {
  bool present = false;
  if (core_->options().memory != nullptr) core_->options().memory->contains({&hash, 1}, {&present, 1});
  return present;
}

void TieredCache::fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done) {
  core_->fetch(std::move(origin), chunks, std::move(done));
}

void TieredCache::consume(std::span<const ContentHash> hashes) {
  if (core_->options().memory != nullptr) core_->options().memory->consume(hashes);
}

bool TieredCache::fill_is_behind() const { return core_->filler().behind(); }
void TieredCache::flush() { core_->filler().flush(); }
Tier* TieredCache::memory() const { return core_->options().memory.get(); }
std::span<const std::shared_ptr<Tier>> TieredCache::lower() const { return core_->options().lower; }

}  // namespace alnair
