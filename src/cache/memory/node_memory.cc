#include "cache/memory/node_memory.h"

#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "cache/memory/segment_writer.h"
#include "cache/private_directory.h"
#include "cache/record.h"
#include "core/metrics.h"

namespace alnair {
namespace {

constexpr std::size_t kMaxArenas = 16;
constexpr std::chrono::seconds kRetryInterval{1};

// Shared by all processes of the node, cheap, a few milliseconds coarse.
std::uint64_t system_clock_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

std::string default_directory() {
  const char* configured = std::getenv("ALNAIR_MEMORY_DIR");
  if (configured != nullptr && *configured != '\0') return configured;
  return fmt::format("/dev/shm/alnair-{}", geteuid());
}

void count(TierCounter counter, std::uint64_t n = 1) {
  if (n > 0) metrics().add(TierId::kMemory, counter, n);
}

}  // namespace

std::shared_ptr<NodeMemory> NodeMemory::open(const NodeMemoryOptions& options) {
  std::shared_ptr<NodeMemory> memory(new NodeMemory(options));
  open_private_directory(memory->options_.directory);
  const std::lock_guard guard(memory->mutex_);
  memory->open_arena();
  return memory;
}

NodeMemory::NodeMemory(NodeMemoryOptions options) : options_(std::move(options)) {
  if (options_.directory.empty()) options_.directory = default_directory();
  if (options_.clock == nullptr) options_.clock = system_clock_ms;
}

NodeMemory::~NodeMemory() {
  Arena* arena = current();
  if (arena != nullptr && generation_ == fork_generation())  // an inherited one holds nothing
    for (const auto& [dataset, n] : holds_)
      arena->locks().unlock(lock_offset(LockPurpose::kDatasetHold, dataset));
}

// The mutex is held.
void NodeMemory::open_arena() {
  last_attempt_ = std::chrono::steady_clock::now();
  if (arenas_.size() >= kMaxArenas) return;
  try {
    arenas_.push_back(Arena::open(
        options_.directory, {options_.limit, options_.transit_limit, options_.segment_bytes, options_.policy},
        options_.clock));
  } catch (const std::exception& error) {
    count(TierCounter::kFaults);
    if (off_logged_.first()) log(LogLevel::kWarning, "node memory is off: {}", error.what());
    return;
  }
  Arena& arena = *arenas_.back();
  for (const auto& [dataset, n] : holds_)
    arena.locks().try_lock_shared(lock_offset(LockPurpose::kDatasetHold, dataset));
  current_.store(&arena, std::memory_order_release);
}

Arena* NodeMemory::usable() {
  Arena* arena = current();
  if (arena != nullptr && arena->control().is_current()) return arena;
  const std::lock_guard guard(mutex_);
  if (current() != arena) return current();  // another thread has seen to it
  if (arena != nullptr) {
    count(TierCounter::kFaults);
    if (replaced_logged_.first())
      log(LogLevel::kWarning, "node memory's directory {} was deleted or replaced; beginning anew",
          options_.directory);
    for (const auto& [dataset, n] : holds_)
      arena->locks().unlock(lock_offset(LockPurpose::kDatasetHold, dataset));
    current_.store(nullptr, std::memory_order_release);
    arena->segments().drop_all();
  } else if (std::chrono::steady_clock::now() - last_attempt_ < kRetryInterval) {
    return nullptr;
  }
  open_arena();
  return current();
}

// `counts`: it is a read, of which damage and the policy's marks are noted.
std::optional<View> NodeMemory::look_up(Arena& arena, const ContentHash& hash, bool counts) {
  std::optional<View> view;
  Arena::ReadFault fault = Arena::ReadFault::kNone;
  Location place;
  arena.index().find(hash, [&](Location candidate) {
    place = candidate;
    view = arena.read(hash, candidate, fault);
    return view.has_value();
  });
  if (counts && fault != Arena::ReadFault::kNone) {
    count(TierCounter::kCorrupt);
    if (damage_logged_.first())
      log(LogLevel::kWarning, "node memory in {} had damaged records; they are read from elsewhere",
          arena.directory());
  }
  if (view && counts && arena.policy().notes_reads()) {
    const SegmentSlot* slot = arena.live_slot(place.segment);  // in transit, a mark means "consumed"
    if (slot != nullptr && !slot->is_transit())
      arena.index().mark(hash, place);
  }
  return view;
}

std::optional<View> NodeMemory::find(const ContentHash& hash) {
  std::optional<View> view;
  if (Arena* arena = current()) {
    arena->segments().drop_evicted();
    view = look_up(*arena, hash, true);
  }
  if (!view) {
    count(TierCounter::kMisses);
    return view;
  }
  count(TierCounter::kHits);
  count(TierCounter::kHitBytes, view->size());
  return view;
}

void NodeMemory::get(std::span<const ContentHash> hashes, Found found) {
  auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    std::optional<View> view = find(hashes[i]);
    const auto end = std::chrono::steady_clock::now();
    if (view) metrics().record_latency(TierId::kMemory, end - start);
    start = end;
    found(i, std::move(view));
  }
}

std::optional<View> NodeMemory::peek(const ContentHash& hash) {
  Arena* arena = current();
  if (arena == nullptr) return std::nullopt;
  arena->segments().drop_evicted();
  return look_up(*arena, hash, false);
}

void NodeMemory::contains(std::span<const ContentHash> hashes, std::span<bool> present) {
  Arena* arena = current();
  for (std::size_t i = 0; i < hashes.size(); ++i)
    present[i] = arena != nullptr && arena->index().find(hashes[i], [&](Location place) {
      return arena->live_slot(place.segment) != nullptr;
    });
}

void NodeMemory::put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) {
  Arena* arena = usable();
  if (arena == nullptr) {
    std::fill(outcomes.begin(), outcomes.end(), PutOutcome::kRefused);
    count(TierCounter::kRefused, requests.size());
    return;
  }
  arena->segments().drop_evicted();
  SegmentWriter writer(*arena);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const PutOutcome outcome = put_one(*arena, writer, requests[i]);
    if (i < outcomes.size()) outcomes[i] = outcome;
  }
  writer.write_survivors();
  report(*arena);
}

// It passes through, and may go at any moment.
bool NodeMemory::is_consumed(Arena& arena, const ContentHash& hash, Location place) {
  const SegmentSlot* slot = arena.live_slot(place.segment);
  return slot != nullptr && slot->is_transit() && (slot->dataset == 0 || arena.index().is_marked(hash, place));
}

PutOutcome NodeMemory::put_one(Arena& arena, SegmentWriter& writer, const PutRequest& request) {
  const SegmentKind kind{request.dataset, request.transit ? SegmentArea::kTransit : SegmentArea::kSmall};
  const bool present = arena.index().find(request.hash, [&](Location place) {
    return arena.holds(request.hash, place) && (kind.is_passing() || !is_consumed(arena, request.hash, place));
  });
  if (present) return PutOutcome::kPresent;
  if (!writer.append(kind, request.hash, request.bytes.bytes())) {
    count(TierCounter::kRefused);
    return PutOutcome::kRefused;
  }
  count(TierCounter::kPuts);
  count(TierCounter::kPutBytes, request.bytes.size());
  return PutOutcome::kStored;
}

void NodeMemory::report(Arena& arena) {
  count(TierCounter::kEvictedBytes, arena.allocator().take_evicted_bytes());
  const std::uint64_t faults = arena.allocator().take_faults();
  count(TierCounter::kFaults, faults);
  if (faults > 0 && fault_logged_.first())
    log(LogLevel::kWarning, "node memory in {} could not be written (is the file system full?); reads go on",
        arena.directory());
}

void NodeMemory::consume(std::span<const ContentHash> hashes) {
  Arena* arena = current();
  if (arena == nullptr) return;
  for (const ContentHash& hash : hashes) {
    arena->index().find(hash, [&](Location place) {
      SegmentSlot* slot = arena->live_slot(place.segment);
      if (slot == nullptr || !slot->is_transit()) return false;
      // The mark makes sure that a chunk counts once, however many processes consume it.
      if (!arena->index().mark(hash, place)) return false;
      slot->consumed.fetch_add(1, std::memory_order_relaxed);
      return true;
    });
  }
}

void NodeMemory::hold_dataset(DatasetTag dataset) {
  const std::lock_guard guard(mutex_);
  if (++holds_[dataset] > 1) return;
  if (Arena* arena = current())
    arena->locks().try_lock_shared(lock_offset(LockPurpose::kDatasetHold, dataset));
}

void NodeMemory::release_dataset(DatasetTag dataset) {
  const std::lock_guard guard(mutex_);
  const auto held = holds_.find(dataset);
  if (held == holds_.end() || --held->second > 0) return;
  holds_.erase(held);
  if (Arena* arena = current()) {
    arena->locks().unlock(lock_offset(LockPurpose::kDatasetHold, dataset));
    arena->allocator().forget_refusal();
  }
}

void NodeMemory::erase(const ContentHash& hash) {
  Arena* arena = current();
  if (arena == nullptr) return;
  arena->index().find(hash, [&](Location place) {
    if (arena->holds(hash, place)) arena->index().erase(hash, place);
    return false;
  });
}

TierUsage NodeMemory::usage() const {
  Arena* arena = current();
  return arena != nullptr ? arena->allocator().usage() : TierUsage{};
}

MemoryLimits NodeMemory::limits() const {
  Arena* arena = current();
  return arena != nullptr ? arena->control().limits() : MemoryLimits{};
}

std::uint64_t NodeMemory::largest_chunk() const {
  constexpr std::uint64_t kOverhead = kFirstRecord + sizeof(RecordHeader) + kRecordAlignment;
  const std::uint64_t segment = limits().segment;
  return segment - std::min(segment, kOverhead);
}

LockFile* NodeMemory::locks() const {
  Arena* arena = current();
  return arena != nullptr ? &arena->locks() : nullptr;
}

}  // namespace alnair
