// Step 4: from the object source to node memory and the readers.
#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "cache/tiered/core.h"
#include "core/metrics.h"

namespace alnair {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFlow = 32;  // flights, so that no reader waits for the last few

}  // namespace

void TieredCache::Core::fetch_from_source(Flights flights) {
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

void TieredCache::Core::fetched(Flights& group, ReadResult result) {
  if (result.error) {
    metrics().add(Counter::kSourceErrors);
    return fail(group, result.error);
  }
  std::vector<Arrival> arrivals;
  const bool publish = !group.front()->origin->source().fills_shared_tiers();
  std::uint64_t position = 0;
  for (auto& flight : group) {
    View chunk = result.bytes.part(position, flight->read.length);
    position += flight->read.length;
    metrics().add(TierId::kSource, TierCounter::kHits);
    metrics().add(TierId::kSource, TierCounter::kHitBytes, chunk.size());
    arrivals.push_back({.flight = std::move(flight), .bytes = std::move(chunk), .publish = publish});
  }
  landing_.add(std::move(arrivals));
}

bool TieredCache::Core::take(std::span<Arrival> arrivals) {
  for (Arrival& arrival : arrivals)
    if (!arrival.hashed) arrival.flight->hash = content_hash(arrival.bytes.bytes());
  keep_in_memory(arrivals);
  if (options_.keep) fill_other_tiers(arrivals);
  land(arrivals);
  const std::lock_guard lock(mutex_);
  return flights_.size() >= kFlow;
}

void TieredCache::Core::fill_other_tiers(std::span<const Arrival> arrivals) {
  std::vector<Cluster::Fetched> fetched;
  const bool published_everywhere = options_.cluster != nullptr && options_.cluster->fills_directory();
  for (const Arrival& arrival : arrivals) {
    const Flight& flight = *arrival.flight;
    const PutRequest request{.hash = *flight.hash, .bytes = arrival.bytes, .dataset = flight.origin->tag()};
    if (!arrival.hashed) {
      if (!arrival.kept || flight.origin->fits_lower_tiers()) filler_.add(request, arrival.kept);
      if (!published_everywhere && !flight.origin->source().fills_shared_tiers())
        shared_filler_.add(request, arrival.kept);
    }
    if (options_.cluster == nullptr) continue;
    if (arrival.publish)
      fetched.push_back({flight.read.id, request});
    else if (flight.leased)
      options_.cluster->release({&flight.read.id, 1});
  }
  if (!fetched.empty()) options_.cluster->publish(std::move(fetched));
}

// Where the policy gives no room, the transit area takes what will be read soon; where that has none, this process does.
void TieredCache::Core::keep_in_memory(std::span<Arrival> arrivals) {
  if (options_.memory == nullptr) return;
  std::vector<PutRequest> requests;
  requests.reserve(arrivals.size());
  std::vector<PutOutcome> outcomes(arrivals.size(), PutOutcome::kRefused);
  const std::vector<Passing> passing = look_ahead_of(arrivals);
  for (std::size_t i = 0; i < arrivals.size(); ++i)
    requests.push_back({.hash = *arrivals[i].flight->hash,
                        .bytes = arrivals[i].bytes,
                        .dataset = options_.keep ? arrivals[i].flight->origin->tag() : passing[i].ahead,
                        .transit = !options_.keep});
  if (options_.keep) {
    options_.memory->put(requests, outcomes);
    for (std::size_t i = 0; i < arrivals.size(); ++i) arrivals[i].kept = outcomes[i] != PutOutcome::kRefused;
  }
  const bool alone = options_.is_alone != nullptr && !std::ranges::all_of(arrivals, &Arrival::kept) && options_.is_alone();
  std::size_t left = 0;
  for (std::size_t i = 0; i < arrivals.size(); ++i) {
    if (arrivals[i].kept || (alone && stays_in_process(arrivals[i], passing[i]))) continue;
    requests[i].transit = true;
    requests[i].dataset = passing[i].ahead;
    std::swap(requests[left++], requests[i]);
  }
  requests.resize(left);
  if (requests.empty()) return;
  outcomes.assign(requests.size(), PutOutcome::kRefused);
  options_.memory->put(requests, outcomes);
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (outcomes[i] == PutOutcome::kRefused) overflow_.add(requests[i].hash, std::move(requests[i].bytes));
}

// Nobody else could find it in node memory: written there it would be copied and checked once more. Look-ahead waits for its
// reader in this process, others are handed over.
bool TieredCache::Core::stays_in_process(const Arrival& arrival, const Passing& passing) {
  return passing.once && (passing.ahead == 0 || overflow_.add_if_room(*arrival.flight->hash, arrival.bytes));
}

std::vector<TieredCache::Core::Passing> TieredCache::Core::look_ahead_of(std::span<const Arrival> arrivals) {
  std::vector<Passing> passing;
  passing.reserve(arrivals.size());
  const std::lock_guard lock(mutex_);
  for (const Arrival& arrival : arrivals) {
    const bool once = std::ranges::all_of(arrival.flight->waiters, [](const Waiter& waiter) { return waiter.read.once; });
    passing.push_back({ahead_of(*arrival.flight), once});
  }
  return passing;
}

void TieredCache::Core::land(std::span<const Arrival> arrivals) {
  if (arrivals.empty()) return;
  tell_hashes(arrivals);
  const auto waiters = close(arrivals);
  for (std::size_t i = 0; i < arrivals.size(); ++i) {
    const Flight& flight = *arrivals[i].flight;
    for (const Waiter& waiter : waiters[i])
      if (waiter.origin != flight.origin) {
        const HashedChunk chunk{waiter.read, *flight.hash};
        waiter.origin->learned_hashes({&chunk, 1});
      }
  }
  for (const Arrival& arrival : arrivals) unlock(*arrival.flight);
  for (std::size_t i = 0; i < arrivals.size(); ++i)
    for (const Waiter& waiter : waiters[i]) (*waiter.done)(waiter.index, arrivals[i].bytes, nullptr);
}

// Each origin's in one call; arrivals of one origin come in rows.
void TieredCache::Core::tell_hashes(std::span<const Arrival> arrivals) {
  std::vector<HashedChunk> learned;
  for (std::size_t i = 0; i < arrivals.size(); ++i) {
    const Flight& flight = *arrivals[i].flight;
    learned.push_back({flight.read, *flight.hash});
    if (i + 1 < arrivals.size() && arrivals[i + 1].flight->origin == flight.origin) continue;
    flight.origin->learned_hashes(learned);
    learned.clear();
  }
}

void TieredCache::Core::fail(const Flights& flights, const std::exception_ptr& error) {
  std::vector<Arrival> failed;
  for (const auto& flight : flights) failed.push_back({.flight = flight, .bytes = {}});
  const auto waiters = close(failed);
  for (const auto& flight : flights) {
    unlock(*flight);
    if (flight->leased) options_.cluster->release({&flight->read.id, 1});
  }
  for (const auto& those : waiters)
    for (const Waiter& waiter : those) (*waiter.done)(waiter.index, {}, error);
}

std::vector<std::vector<Waiter>> TieredCache::Core::close(std::span<const Arrival> arrivals) {
  std::vector<std::vector<Waiter>> waiters;
  waiters.reserve(arrivals.size());
  const std::lock_guard lock(mutex_);
  for (const Arrival& arrival : arrivals) {
    waiters.push_back(std::move(arrival.flight->waiters));
    flights_.erase(arrival.flight->read.id);
  }
  return waiters;
}

}  // namespace alnair
