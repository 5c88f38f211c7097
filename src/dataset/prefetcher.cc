#include "dataset/prefetcher.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>

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
  std::uint64_t room = 0;      // of the budget, at present
  std::uint64_t next = 0;      // first position of `order` not started
  std::uint64_t consumed = 0;  // first position not consumed; <= next
  std::deque<std::uint64_t> started;  // for [consumed, next): bytes; 0 for what was left alone
  std::deque<std::uint64_t> marks;    // from `next` on, of what was drawn
  std::uint64_t ahead = 0;            // the sum of `started`
  std::uint64_t in_flight = 0;
  bool stopping = false;

  // An object larger than the budget goes alone.
  bool has_room() const {
    return next < order.size() && in_flight < kMaxInFlight && (ahead < room || ahead == 0);
  }
  // Whether it is worth waking up for: for a batch, not for each object that landed.
  bool should_start() const {
    return has_room() && in_flight + kBatch <= kMaxInFlight && (ahead <= room - room / kRefill || ahead == 0);
  }

  void restart() {
    next = consumed = ahead = 0;
    started.clear();
    marks.clear();
  }

  std::uint64_t next_to_draw() const { return next + marks.size(); }
  void draw() { marks.push_back(target.mark_of(order[next_to_draw()])); }

  // The next object of the order; nullopt: somebody has brought it since it was drawn.
  std::optional<Object> take() {
    Object object{order[next], target.mark_of(order[next])};
    ++next;
    const bool overtaken = !marks.empty() && marks.front() != object.mark;
    if (!marks.empty()) marks.pop_front();
    started.push_back(overtaken ? 0 : target.size_of(object.index));
    ahead += started.back();
    return overtaken ? std::nullopt : std::optional(object);
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
    state_->room = std::min(budget_bytes, state_->target.room());
    state_->restart();
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

void Prefetcher::advance(std::uint64_t consumed, std::uint64_t drawn) {
  bool wake = false;
  std::vector<std::uint64_t> read;
  {
    const std::lock_guard lock(state_->mutex);
    State& state = *state_;
    consumed = std::min<std::uint64_t>(consumed, state.order.size());
    if (state.target.consumed && consumed > state.consumed)
      read.assign(state.order.begin() + static_cast<std::ptrdiff_t>(state.consumed),
                  state.order.begin() + static_cast<std::ptrdiff_t>(consumed));
    for (; state.consumed < std::min(consumed, state.next); ++state.consumed) {
      state.ahead -= state.started.front();
      state.started.pop_front();
    }
    for (; state.next < consumed; state.consumed = ++state.next)  // the consumer overtook: start beyond it
      if (!state.marks.empty()) state.marks.pop_front();
    drawn = std::min<std::uint64_t>(drawn, state.order.size());
    while (state.next_to_draw() < drawn) state.draw();
    wake = state.should_start();
  }
  if (wake) state_->changed.notify_all();
  if (!read.empty()) state_->target.consumed(read);
}

void Prefetcher::draw(std::span<const std::uint64_t> indices) {
  const std::lock_guard lock(state_->mutex);
  State& state = *state_;
  for (const std::uint64_t index : indices)
    if (state.next_to_draw() < state.order.size() && state.order[state.next_to_draw()] == index) state.draw();
}

void Prefetcher::cancel() {
  const std::lock_guard lock(state_->mutex);
  state_->order.clear();
  state_->restart();
}

void Prefetcher::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  std::vector<Object> batch;
  while (true) {
    state->changed.wait(lock, [&] { return state->stopping || state->should_start(); });
    if (state->stopping) return;
    if (state->target.must_wait()) {
      state->changed.wait_for(lock, kMustWaitPoll, [&] { return state->stopping; });
      continue;
    }
    batch.clear();
    state->room = std::min(state->budget, state->target.room());
    while (state->has_room() && batch.size() < kBatch) {
      const std::optional<Object> object = state->take();
      if (!object) continue;
      batch.push_back(*object);
      ++state->in_flight;
    }
    if (batch.empty()) continue;
    lock.unlock();
    state->target.start(batch, [state](std::uint64_t count) {
      bool wake = false;
      {
        const std::lock_guard guard(state->mutex);
        state->in_flight -= count;
        wake = state->should_start();
      }
      if (wake) state->changed.notify_all();
    });
    lock.lock();
  }
}

}  // namespace alnair
