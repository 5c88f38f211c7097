#include "dataset/prefetcher.h"

#include <algorithm>
#include <chrono>

namespace alnair {
namespace {

constexpr std::uint64_t kBatch = 64;  // objects started at once: one question to the catalog and to each tier
constexpr std::uint64_t kRefill = 4;  // starts again once a quarter of the budget was consumed
constexpr auto kMustWaitPoll = std::chrono::milliseconds(5);

}  // namespace

struct Prefetcher::State {
  Target target;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::uint64_t> order;
  std::uint64_t budget = 0;
  std::uint64_t next = 0;      // first position of `order` not started
  std::uint64_t consumed = 0;  // first position not consumed; <= next
  std::uint64_t ahead = 0;     // bytes in [consumed, next)
  std::uint64_t in_flight = 0;
  bool stopping = false;

  // An object larger than the budget goes alone.
  bool has_room() const {
    return next < order.size() && in_flight < kMaxInFlight && (ahead < budget || next == consumed);
  }
  // Whether it is worth waking up for: for a batch, not for each object that landed.
  bool should_start() const {
    return has_room() && in_flight + kBatch <= kMaxInFlight && (ahead <= budget - budget / kRefill || next == consumed);
  }
};

Prefetcher::Prefetcher(Target target) : state_(std::make_shared<State>()) { state_->target = std::move(target); }

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Prefetcher::set_order(std::vector<std::uint64_t> order, std::uint64_t budget_bytes) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->order = std::move(order);
    state_->budget = budget_bytes;
    state_->next = state_->consumed = state_->ahead = 0;
  }
  const std::lock_guard lock(start_mutex_);
  if (!thread_.joinable()) thread_ = std::thread([state = state_] { run(state); });
  state_->changed.notify_all();
}

void Prefetcher::extend(std::span<const std::uint64_t> more) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->order.insert(state_->order.end(), more.begin(), more.end());
  }
  state_->changed.notify_all();
}

void Prefetcher::advance(std::uint64_t consumed) {
  bool wake = false;
  {
    const std::lock_guard lock(state_->mutex);
    State& state = *state_;
    consumed = std::min<std::uint64_t>(consumed, state.order.size());
    for (; state.consumed < std::min(consumed, state.next); ++state.consumed)
      state.ahead -= state.target.size_of(state.order[state.consumed]);
    if (consumed > state.next) state.next = state.consumed = consumed;  // the consumer overtook: start beyond it
    wake = state.should_start();
  }
  if (wake) state_->changed.notify_all();
}

void Prefetcher::cancel() {
  const std::lock_guard lock(state_->mutex);
  state_->order.clear();
  state_->next = state_->consumed = state_->ahead = 0;
}

void Prefetcher::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  std::vector<std::uint64_t> batch;
  while (true) {
    state->changed.wait(lock, [&] { return state->stopping || state->should_start(); });
    if (state->stopping) return;
    if (state->target.must_wait()) {
      state->changed.wait_for(lock, kMustWaitPoll, [&] { return state->stopping; });
      continue;
    }
    batch.clear();
    while (state->has_room() && batch.size() < kBatch) {
      batch.push_back(state->order[state->next++]);
      state->ahead += state->target.size_of(batch.back());
      ++state->in_flight;
    }
    lock.unlock();
    state->target.start(batch, [state] {
      bool wake = false;
      {
        const std::lock_guard guard(state->mutex);
        --state->in_flight;
        wake = state->should_start();
      }
      if (wake) state->changed.notify_all();
    });
    lock.lock();
  }
}

}  // namespace alnair
