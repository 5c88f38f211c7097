#include "cache/directory/directory_state.h"

#include <utility>

namespace alnair {
namespace {

constexpr int kLookShare = 4;  // a fifth of the time may go into looking for what was missing

}  // namespace

// Reads one group of chunks.
struct DirectoryTier::State::ReadTask : IoTask {
  std::shared_ptr<State> state;
  std::shared_ptr<std::vector<PlacedRead>> all;  // what `reads` is a part of
  std::span<PlacedRead> reads;
  std::shared_ptr<const Found> found;
  bool after_scan = false;
  std::chrono::nanoseconds took{0};

  void run() noexcept override {
    const auto begin = Clock::now();
    auto damaged = read_group(reads, state->files, *state->index, state->open_chunks);
    took = Clock::now() - begin;
    if (!damaged.chunks.empty() && !state->options.root.empty())
      state->later([damaged = std::move(damaged)](State& tier) { tier.collector.mend(damaged.segment, damaged.chunks); });
  }
  void finish(bool completed) noexcept override {
    // When not completed, run() may be writing into `reads` at this moment: only what nobody changes is
    // touched.
    const TierId id = state->options.id;
    // What another host has moved to a new segment is there.
    std::vector<PlacedRead> moved;
    for (PlacedRead& read : reads)
      if (completed && !read.found && !after_scan) {
        moved.emplace_back();
        moved.back().index = read.index;
        moved.back().hash = read.hash;
      }
    const bool again = !moved.empty() && state->look_again(moved, found);
    for (PlacedRead& read : reads) {
      if (again && !read.found) continue;
      if (completed && read.found) {
        metrics().add(id, TierCounter::kHits);
        metrics().add(id, TierCounter::kHitBytes, read.bytes.size());
        metrics().record_latency(id, took);
        (*found)(read.index, std::move(read.bytes));
      } else {
        metrics().add(id, TierCounter::kMisses);
        (*found)(read.index, std::nullopt);
      }
    }
  }
};

// Reports misses on a reading thread: callbacks must not run on the writing thread, which they may wait for.
struct DirectoryTier::State::MissTask : IoTask {
  std::shared_ptr<State> state;
  std::vector<PlacedRead> missing;
  std::shared_ptr<const Found> found;

  void run() noexcept override {}
  void finish(bool) noexcept override { state->report_misses(missing, *found); }
};

// Looks for new segments, and then for the chunks that were missing. Until it begins, more may join.
struct DirectoryTier::State::ScanTask : IoTask {
  std::shared_ptr<State> state;
  std::vector<std::pair<std::vector<PlacedRead>, std::shared_ptr<const Found>>> waiting;

  void begin() {
    const std::lock_guard lock(state->looking);
    if (state->next_look.get() == this) state->next_look = nullptr;
  }
  void run() noexcept override {
    begin();
    const auto start = Clock::now();
    state->scan();
    const auto end = Clock::now();
    const std::lock_guard lock(state->looking);
    state->look_after = end + kLookShare * (end - start);
  }
  void finish(bool completed) noexcept override {
    begin();
    for (auto& [missing, found] : waiting) {
      if (completed) {
        state->read(std::move(missing), found, true);
      } else {
        state->report_misses(missing, *found);
      }
    }
  }
};

// Looks for chunks that the index does not have, or has in a segment that is gone: other hosts may have written them, or moved them.
// false: that has been done a moment ago.
bool DirectoryTier::State::look_again(std::vector<PlacedRead>& missing, const std::shared_ptr<const Found>& found) {
  const std::lock_guard lock(looking);
  if (next_look == nullptr) {
    const bool first = !scanned.load(std::memory_order_acquire);
    if (!first && (options.root.empty() || Clock::now() < look_after)) return false;
    const auto task = std::make_shared<ScanTask>();
    task->state = shared_from_this();
    task->waiting.emplace_back(std::move(missing), found);
    next_look = task;
    if (writing.submit(task)) return true;
    next_look = nullptr;
    missing = std::move(task->waiting.back().first);
    return false;
  }
  next_look->waiting.emplace_back(std::move(missing), found);
  return true;
}

void DirectoryTier::State::read(std::vector<PlacedRead> wanted, std::shared_ptr<const Found> found,
                                bool after_scan) {
  auto present = std::make_shared<std::vector<PlacedRead>>();
  std::vector<PlacedRead> missing;
  for (PlacedRead& read : wanted) {
    read.open = open_chunks.find(read.hash);
    const bool open = read.open.file != nullptr;
    if (!open) read.places = index->find(read.hash);
    (open || read.places.count > 0 ? *present : missing).push_back(std::move(read));
  }
  if (!missing.empty()) {
    bool submitted = false;
    if (!after_scan) {
      submitted = look_again(missing, found);
    } else {
      auto task = std::make_shared<MissTask>();
      task->state = shared_from_this();
      task->found = found;
      task->missing = missing;
      submitted = reading.submit(task);
    }
    if (!submitted) report_misses(missing, *found);
  }
  if (present->empty()) return;
  std::vector<std::shared_ptr<IoTask>> tasks;
  for (const std::span<PlacedRead> group : group_reads(*present)) {
    auto task = std::make_shared<ReadTask>();
    task->state = shared_from_this();
    task->all = present;
    task->reads = group;
    task->found = found;
    task->after_scan = after_scan;
    tasks.push_back(std::move(task));
  }
  if (!reading.submit(tasks)) report_misses(*present, *found);
}

void DirectoryTier::State::later(std::function<void(State&)> body) {
  struct Later : IoTask {
    std::shared_ptr<State> state;
    std::function<void(State&)> body;
    void run() noexcept override { body(*state); }
    void finish(bool) noexcept override {}
  };
  auto task = std::make_shared<Later>();
  task->state = shared_from_this();
  task->body = std::move(body);
  writing.submit(task);
}

void DirectoryTier::State::rescan_sometimes() {
  const Clock::rep now = Clock::now().time_since_epoch().count();
  Clock::rep last = last_scan.load(std::memory_order_relaxed);
  if (now - last < std::chrono::duration_cast<Clock::duration>(options.rescan_after).count()) return;
  if (!last_scan.compare_exchange_strong(last, now, std::memory_order_relaxed)) return;
  later([](State& state) { state.scan(); });
}

void DirectoryTier::State::tend() {
  if (options.root.empty() || options.durability.count() == 0) return;
  const Clock::rep now = Clock::now().time_since_epoch().count();
  Clock::rep last = last_tend.load(std::memory_order_relaxed);
  if (last != 0 && now - last < std::chrono::duration_cast<Clock::duration>(options.tend_after).count()) return;
  if (!last_tend.compare_exchange_strong(last, now, std::memory_order_relaxed)) return;
  later([](State& state) { state.collector.tell(); });
  later([](State& state) { state.collect(); });
}

void DirectoryTier::State::collect() {
  if (collector.collect()) later([](State& state) { state.collect(); });
}

void DirectoryTier::State::seal_aged() {
  const auto before = Clock::now() - options.seal_after;
  if (!writer.has_older(before)) return;
  later([before](State& state) { state.writer.seal(before); });
  later([](State& state) { state.writer.merge(); });
}

}  // namespace alnair
