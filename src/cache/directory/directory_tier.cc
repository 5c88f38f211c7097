#include "cache/directory/directory_tier.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include "alnair/core/error.h"
#include "cache/directory/chunk_reads.h"
#include "cache/directory/directory_writer.h"
#include "cache/directory/io_pool.h"
#include "core/log.h"

namespace alnair {

using Clock = std::chrono::steady_clock;

namespace {

constexpr std::string_view kFormatVersion = "v1";  // formats lie side by side

DirectoryOptions completed(DirectoryOptions options) {
  if (options.files == nullptr) options.files = std::make_shared<FileSystem>();
  if (options.segment_bytes == 0) {
    // Open segments count with their full size: a small limit wants small ones.
    const std::uint64_t share = options.limit_bytes == 0 ? kMaxSegmentFileBytes : options.limit_bytes / 32;
    options.segment_bytes = std::clamp<std::uint64_t>(share, 256u << 10, kMaxSegmentFileBytes);
  }
  return options;
}

// Why this user must not use the directory; empty: nothing is wrong with it, or it does not exist.
std::string refusal(const std::string& directory) {
  struct stat info;
  if (::lstat(directory.c_str(), &info) < 0) return {};
  if (!S_ISDIR(info.st_mode)) {
    return fmt::format("the cache directory {} is {}; expected a directory", directory,
                       S_ISLNK(info.st_mode) ? "a symbolic link" : "a file");
  }
  if (info.st_uid != ::geteuid()) {
    return fmt::format(
        "the cache directory {} belongs to user {}, and this process runs as user {}: use a directory of "
        "your own",
        directory, info.st_uid, ::geteuid());
  }
  return {};
}

}  // namespace

struct DirectoryTier::State : std::enable_shared_from_this<DirectoryTier::State> {
  explicit State(DirectoryOptions from)
      : options(completed(std::move(from))),
        files(options.directory + "/" + std::string(kFormatVersion), options.files, options.id, options.name),
        index(1u << 16),
        space(files, index, options.limit_bytes, options.eviction,
              [this](DatasetTag tag) { return is_held(tag); }),
        writer(options, files, index, space, open_chunks),
        writing({1, options.stall_limit, [this] { files.fault(-ETIMEDOUT, "write to", ""); }}),
        reading({options.read_threads, options.stall_limit,
                 [this] { files.fault(-ETIMEDOUT, "read from", ""); }}) {}

  bool is_held(DatasetTag dataset) {
    std::lock_guard lock(held_mutex);
    return held.contains(dataset);
  }

  bool has(const ContentHash& hash) const {
    return open_chunks.find(hash).file != nullptr || index.find(hash).count > 0;
  }

  // Whether a miss should look for other processes' segments first; says so once in a while.
  bool scan_due() {
    if (!scanned.load(std::memory_order_acquire)) return true;
    const Clock::rep now = Clock::now().time_since_epoch().count();
    Clock::rep last = last_scan.load(std::memory_order_relaxed);
    const Clock::rep pause = std::chrono::duration_cast<Clock::duration>(options.rescan_after).count();
    return now - last >= pause && last_scan.compare_exchange_strong(last, now, std::memory_order_relaxed);
  }
  void scan() {
    writer.scan();
    scanned.store(true, std::memory_order_release);
  }

  void seal_aged();
  void read(std::vector<PlacedRead> wanted, std::shared_ptr<const Found> found, bool may_scan);
  void report_misses(std::span<const PlacedRead> missing, const Found& found) {
    metrics().add(options.id, TierCounter::kMisses, missing.size());
    for (const PlacedRead& read : missing) found(read.index, std::nullopt);
  }

  struct ScanTask;
  struct ReadTask;
  struct MissTask;

  const DirectoryOptions options;
  SegmentFiles files;
  DirectoryIndex index;
  OpenChunks open_chunks;
  DirectorySpace space;
  DirectoryWriter writer;
  std::mutex held_mutex;
  std::multiset<DatasetTag> held;
  std::atomic<bool> scanned{false};
  std::atomic<Clock::rep> last_scan{0};
  std::atomic<std::uint64_t> used_bytes{0}, limit_bytes{0};  // when they were last looked at
  // Last: their threads use all of the above.
  IoPool writing;  // one thread: it alone changes the directory
  IoPool reading;
};

// Reads one group of chunks.
struct DirectoryTier::State::ReadTask : IoTask {
  std::shared_ptr<State> state;
  std::shared_ptr<std::vector<PlacedRead>> all;  // what `reads` is a part of
  std::span<PlacedRead> reads;
  std::shared_ptr<const Found> found;
  std::chrono::nanoseconds took{0};

  void run() noexcept override {
    const auto begin = Clock::now();
    read_group(reads, state->files, state->index, state->open_chunks);
    took = Clock::now() - begin;
  }
  void finish(bool completed) noexcept override {
    // When not completed, run() may be writing into `reads` at this moment: only what nobody changes is
    // touched.
    const TierId id = state->options.id;
    for (PlacedRead& read : reads) {
      if (completed && read.bytes) {
        metrics().add(id, TierCounter::kHits);
        metrics().add(id, TierCounter::kHitBytes, read.bytes->size());
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

// Looks for new segments, and then for the chunks that were missing.
struct DirectoryTier::State::ScanTask : IoTask {
  std::shared_ptr<State> state;
  std::vector<PlacedRead> missing;
  std::shared_ptr<const Found> found;

  void run() noexcept override { state->scan(); }
  void finish(bool completed) noexcept override {
    if (completed) {
      state->read(std::move(missing), found, false);
    } else {
      state->report_misses(missing, *found);
    }
  }
};

void DirectoryTier::State::read(std::vector<PlacedRead> wanted, std::shared_ptr<const Found> found,
                                bool may_scan) {
  auto present = std::make_shared<std::vector<PlacedRead>>();
  std::vector<PlacedRead> missing;
  for (PlacedRead& read : wanted) {
    read.open = open_chunks.find(read.hash);
    const bool open = read.open.file != nullptr;
    if (!open) read.places = index.find(read.hash);
    (open || read.places.count > 0 ? *present : missing).push_back(std::move(read));
  }
  if (!missing.empty()) {
    bool submitted = false;
    if (may_scan && scan_due()) {
      auto task = std::make_shared<ScanTask>();
      task->state = shared_from_this();
      task->found = found;
      task->missing = missing;
      submitted = writing.submit(task);
    } else if (!may_scan) {
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
    tasks.push_back(std::move(task));
  }
  if (!reading.submit(tasks)) report_misses(*present, *found);
}

void DirectoryTier::State::seal_aged() {
  const auto before = Clock::now() - options.seal_after;
  if (!writer.has_older(before)) return;
  struct SealTask : IoTask {
    std::shared_ptr<State> state;
    Clock::time_point before;
    void run() noexcept override { state->writer.seal(before); }
    void finish(bool) noexcept override {}
  };
  auto task = std::make_shared<SealTask>();
  task->state = shared_from_this();
  task->before = before;
  writing.submit(task);
}

DirectoryTier::DirectoryTier(DirectoryOptions options) : state_(std::make_shared<State>(std::move(options))) {
  struct Outcome {
    std::string refusal;
    int error = 0;
  };
  auto outcome = std::make_shared<Outcome>();
  // On a thread of its own, that goes again at once: the file system may hang.
  IoPool opening({1, state_->options.stall_limit, nullptr});
  const bool answered = run_and_wait(opening, [outcome, state = state_] {
    const std::string& directory = state->options.directory;
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), ignored);
    outcome->error = state->options.files->make_directory(directory);
    outcome->refusal = refusal(directory);
    if (!outcome->refusal.empty()) return;
    if (outcome->error == 0) outcome->error = state->options.files->make_directory(state->files.directory());
  });
  if (!answered) {
    state_->files.fault(-ETIMEDOUT, "open", "");
  } else if (!outcome->refusal.empty()) {
    throw CacheError(outcome->refusal);
  } else if (outcome->error < 0) {
    state_->files.fault(outcome->error, "make", "");
  }
}

DirectoryTier::~DirectoryTier() { flush(); }

std::string_view DirectoryTier::name() const { return state_->options.name; }

void DirectoryTier::get(std::span<const ContentHash> hashes, Found found) {
  state_->seal_aged();
  std::vector<PlacedRead> wanted(hashes.size());
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    wanted[i].index = i;
    wanted[i].hash = hashes[i];
  }
  state_->read(std::move(wanted), std::make_shared<const Found>(std::move(found)), true);
}

void DirectoryTier::contains(std::span<const ContentHash> hashes, std::span<bool> present) {
  if (state_->scan_due()) run_and_wait(state_->writing, [state = state_] { state->scan(); });
  const bool reachable = !state_->reading.stalled();
  for (std::size_t i = 0; i < hashes.size(); ++i) present[i] = reachable && state_->has(hashes[i]);
}

void DirectoryTier::put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) {
  struct Job {
    std::vector<PutRequest> requests;  // copies: they share the bytes, and live until the write returns
    std::vector<PutOutcome> outcomes;
    std::vector<std::size_t> wanted;
  };
  auto job = std::make_shared<Job>();
  job->outcomes.assign(requests.size(), PutOutcome::kRefused);
  state_->seal_aged();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].transit) continue;  // node memory's
    if (state_->has(requests[i].hash)) {
      job->outcomes[i] = PutOutcome::kPresent;
    } else {
      job->wanted.push_back(i);
    }
  }
  bool answered = true;
  if (!job->wanted.empty()) {
    job->requests.assign(requests.begin(), requests.end());
    answered = run_and_wait(state_->writing, [job, state = state_] {
      if (!state->scanned) state->scan();
      std::vector<const PutRequest*> chunks;
      std::vector<PutOutcome*> results;
      for (const std::size_t i : job->wanted) {
        if (state->has(job->requests[i].hash)) {
          job->outcomes[i] = PutOutcome::kPresent;
          continue;
        }
        chunks.push_back(&job->requests[i]);
        results.push_back(&job->outcomes[i]);
      }
      state->writer.put(chunks, results);
    });
  }
  std::uint64_t refused = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    // A write that hangs may be changing its outcomes: they are not looked at.
    const PutOutcome outcome = answered ? job->outcomes[i] : PutOutcome::kRefused;
    refused += outcome == PutOutcome::kRefused;
    if (i < outcomes.size()) outcomes[i] = outcome;
  }
  if (refused > 0) metrics().add(state_->options.id, TierCounter::kRefused, refused);
}

void DirectoryTier::hold_dataset(DatasetTag dataset) {
  std::lock_guard lock(state_->held_mutex);
  state_->held.insert(dataset);
}

void DirectoryTier::release_dataset(DatasetTag dataset) {
  std::lock_guard lock(state_->held_mutex);
  if (const auto found = state_->held.find(dataset); found != state_->held.end()) state_->held.erase(found);
}

void DirectoryTier::erase(const ContentHash& hash) {
  for (const ChunkPlace& place : state_->index.find(hash)) state_->index.erase(hash, place);
}

void DirectoryTier::flush() {
  if (!state_->writer.has_older(Clock::time_point::max())) return;
  run_and_wait(state_->writing, [state = state_] { state->writer.seal(); });
}

TierUsage DirectoryTier::usage() const {
  run_and_wait(state_->writing, [state = state_] {
    if (!state->scanned) state->scan();
    if (const auto account = state->space.account()) {
      state->used_bytes = account->used_bytes;
      state->limit_bytes = account->limit_bytes;
    }
  });
  TierUsage usage;
  usage.used_bytes = state_->used_bytes;
  usage.limit_bytes = state_->limit_bytes;
  for (const auto& [slot, segment] : state_->index.table().all()) usage.chunks += segment.chunks;
  usage.chunks += state_->open_chunks.size();
  return usage;
}

}  // namespace alnair
