// Step 3 in a cluster: one node of all fetches.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "cache/tiered/core.h"

namespace alnair {
namespace {

// How long to wait before the next look at what another node fetches: a quarter of the time that it has taken already, so that
// many who wait for long do not keep Redis busy.
std::chrono::steady_clock::duration pause_after(std::chrono::steady_clock::duration waited) {
  return std::clamp<std::chrono::steady_clock::duration>(waited / 4, std::chrono::milliseconds(20),
                                                         std::chrono::milliseconds(250));
}

std::vector<ChunkId> ids_of(const Flights& flights) {
  std::vector<ChunkId> ids;
  ids.reserve(flights.size());
  for (const auto& flight : flights) ids.push_back(flight->read.id);
  return ids;
}

}  // namespace

void TieredCache::Core::elect(Flights flights) {
  if (flights.empty()) return;
  if (options_.cluster == nullptr) return fetch_from_source(std::move(flights));
  find_abroad(std::move(flights), [self = shared_from_this()](Flights missed) {
    Flights without_lease;
    for (auto& flight : missed)  // a lease is for who will store what it fetches
      if (!self->options_.keep || flight->origin->source().fills_shared_tiers()) without_lease.push_back(std::move(flight));
    std::erase(missed, nullptr);
    self->fetch_from_source(std::move(without_lease));
    if (!missed.empty()) self->lease(std::move(missed));
  });
}

void TieredCache::Core::lease(Flights flights) {
  const auto asked = std::make_shared<Flights>(std::move(flights));
  const auto ids = ids_of(*asked);
  options_.cluster->acquire(ids, [self = shared_from_this(), asked](std::vector<LeaseOutcome> outcomes) {
    Flights leased, alone, others;
    const auto now = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      FlightPtr& flight = (*asked)[i];
      flight->leased = outcomes[i] == LeaseOutcome::kGranted;
      flight->next_look = now + pause_after(now - flight->started);
      if (flight->leased)
        leased.push_back(std::move(flight));
      else if (outcomes[i] == LeaseOutcome::kUnavailable || is_impatient(*flight))
        alone.push_back(std::move(flight));
      else
        others.push_back(std::move(flight));
    }
    if (!others.empty()) self->wait_for_others(std::move(others), self->abroad_);
    self->fetch_from_source(std::move(alone));
    // The lease's last holder may have finished between our look and our lease.
    self->find_abroad(std::move(leased), [self](Flights missed) { self->fetch_from_source(std::move(missed)); });
  });
}

void TieredCache::Core::find_abroad(Flights flights, Continue missed) {
  if (flights.empty()) return;
  struct Looking {
    Flights known, unknown;
    Continue missed;
  };
  const auto looking = std::make_shared<Looking>();
  looking->missed = std::move(missed);
  for (auto& flight : flights) (flight->hash ? looking->known : looking->unknown).push_back(std::move(flight));
  const auto ids = ids_of(looking->unknown);
  options_.cluster->find_hashes(
      ids, [self = shared_from_this(), looking](std::vector<std::optional<ContentHash>> hashes) {
        Flights untold;
        for (std::size_t i = 0; i < hashes.size(); ++i) {
          FlightPtr& flight = looking->unknown[i];
          flight->hash = hashes[i];
          (flight->hash ? looking->known : untold).push_back(std::move(flight));
        }
        self->ask(self->options_.lower.size(), std::move(looking->known), looking->missed);
        if (!untold.empty()) looking->missed(std::move(untold));
      });
}

}  // namespace alnair
