#include "cache/directory/directory_tier.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "alnair/core/error.h"
#include "cache/directory/chunk_reads.h"
#include "cache/directory/directory_collector.h"
#include "cache/directory/directory_writer.h"
#include "core/io_pool.h"
#include "cache/private_directory.h"
#include "core/log.h"

namespace alnair {

using Clock = std::chrono::steady_clock;

namespace {

constexpr std::string_view kFormatVersion = "v1";                           // formats lie side by side
constexpr int kLookShare = 4;  // a fifth of the time may go into looking for what was missing
constexpr std::uint32_t kManySegments = 1u << 16, kFewSegments = 1u << 13;  // 4 MiB, 512 KiB of table

int make_shared_directories(const DirectoryOptions& options, const std::string& folder) {
  struct stat info;
  if (::stat(options.root.c_str(), &info) == 0 && !S_ISDIR(info.st_mode))
    throw ConfigError(fmt::format("{}: {} is not a directory", options.name, options.root));
  int error = options.files->make_directory(options.root);
  if (error == -ENOENT)
    throw ConfigError(fmt::format("{}: there is no directory {}, nor one to make it in; is its file system mounted?",
                                  options.name, options.root));
  for (std::size_t slash = options.root.size(); error >= 0 && slash != std::string::npos;) {
    slash = folder.find('/', slash + 1);
    error = options.files->make_directory(folder.substr(0, slash));
  }
  return error;
}

// Makes the directory and its folder for this format, as far as they are missing. Returns 0 or the -errno;
// throws CacheError if this user must not use it.
int make_directories(const DirectoryOptions& options, const std::string& folder) {
  if (!options.root.empty()) return make_shared_directories(options, folder);
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(options.directory).parent_path(), ignored);
  const int error = options.files->make_directory(options.directory);
  struct stat info;
  if (::lstat(options.directory.c_str(), &info) < 0) return error;
  open_private_directory(options.directory);
  return options.files->make_directory(folder);
}

// The same, on a thread that goes again at once: the file system may hang.
void open_directory(const DirectoryOptions& options, SegmentFiles& files) {
  struct Outcome {
    std::exception_ptr refusal;
    int error = 0;
  };
  auto outcome = std::make_shared<Outcome>();
  IoPool opening({1, options.stall_limit, nullptr});
  const bool answered = run_and_wait(opening, [outcome, options, folder = files.directory()] {
    try {
      outcome->error = make_directories(options, folder);
    } catch (...) {
      outcome->refusal = std::current_exception();
    }
  });
  if (answered && outcome->refusal) std::rethrow_exception(outcome->refusal);
  const int error = answered ? outcome->error : -ETIMEDOUT;
  if (error < 0) files.fault(error, "make", "");
}

std::unique_ptr<DirectoryShare> make_share(const DirectoryOptions& options) {
  if (!options.node_directory.empty()) {
    try {
      return std::make_unique<DirectoryShare>(open_private_directory(options.node_directory),
                                              options.directory);
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "{} tier: this process shares nothing with others: {}", options.name,
          error.what());
    }
  }
  return std::make_unique<DirectoryShare>();
}

std::unique_ptr<DirectoryIndex> make_index(const DirectoryOptions& options, const DirectoryShare& share) {
  if (share.shared()) {
    try {
      DiskSpace memory;
      FileSystem().space(options.node_directory, memory);
      const std::uint64_t max_bytes =
          std::clamp<std::uint64_t>(memory.total_bytes / 16, 2u << 20, 512u << 20);
      const std::uint32_t slots = memory.total_bytes < (1u << 30) ? kFewSegments : kManySegments;
      return std::make_unique<DirectoryIndex>(share, slots, max_bytes);
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "{} tier: the index is not shared with other processes: {}", options.name,
          error.what());
    }
  }
  return std::make_unique<DirectoryIndex>(kManySegments);
}

// The first process records what its options say; those that come while it, or a later one, lives adopt it.
void adopt_limits(DirectoryOptions& options, const DirectoryShare& share, SegmentTable::Shared& recorded) {
  if (share.in_use()) {
    options.limit_bytes = recorded.limit_bytes;
    options.eviction = static_cast<EvictionPolicy>(recorded.policy.load());
  } else {
    recorded.limit_bytes = options.limit_bytes;
    recorded.policy = static_cast<std::uint64_t>(options.eviction);
  }
  if (options.tend_after.count() == 0)
    options.tend_after = std::clamp<std::chrono::milliseconds>(options.durability / 4, std::chrono::seconds(30), std::chrono::minutes(5));
  if (options.segment_bytes == 0) {
    // Open segments count with their full size: a small limit wants small ones.
    const std::uint64_t share_of_limit =
        options.limit_bytes == 0 ? kMaxSegmentFileBytes : options.limit_bytes / 32;
    options.segment_bytes = std::clamp<std::uint64_t>(share_of_limit, 256u << 10, kMaxSegmentFileBytes);
  }
}

}  // namespace

struct DirectoryTier::State : std::enable_shared_from_this<DirectoryTier::State> {
  State(DirectoryOptions from, std::unique_ptr<DirectoryShare> shared,
        std::unique_ptr<DirectoryIndex> entries, LockFile::Guard user)
      : options(std::move(from)),
        share(std::move(shared)),
        joined(std::move(user)),
        index(std::move(entries)),
        files(folder(options), options.files, options.id, options.name),
        space(*share, files, *index, options),
        writer(options, *share, files, *index, space, open_chunks),
        collector(options, *share, files, *index, space, writer),
        scanned(index->table().shared().scanned != 0),
        writing({1, options.stall_limit, [this] { files.fault(-ETIMEDOUT, "write to", ""); }}),
        reading({options.read_threads, options.stall_limit,
                 [this] { files.fault(-ETIMEDOUT, "read from", ""); }}) {}

  static std::string folder(const DirectoryOptions& options) {
    return options.directory + "/" + std::string(kFormatVersion);
  }

  bool has(const ContentHash& hash) const {
    return open_chunks.find(hash).file != nullptr || index->find(hash).count > 0;
  }

  void scan() {
    writer.scan();
    scanned.store(true, std::memory_order_release);
  }
  // Looks for other hosts' segments, once in a while and behind the caller's back: a miss need not wait for
  // it.
  void rescan_sometimes();

  void seal_aged();
  void tend();     // sometimes: says which jobs live, and collects what none of them names
  void collect();  // bit by bit
  void later(std::function<void(State&)> body);  // on the writing thread
  void read(std::vector<PlacedRead> wanted, std::shared_ptr<const Found> found, bool after_scan);
  bool look_again(std::vector<PlacedRead>& missing, const std::shared_ptr<const Found>& found);
  void report_misses(std::span<const PlacedRead> missing, const Found& found) {
    metrics().add(options.id, TierCounter::kMisses, missing.size());
    for (const PlacedRead& read : missing) found(read.index, std::nullopt);
  }

  struct ScanTask;
  struct ReadTask;
  struct MissTask;

  const DirectoryOptions options;
  const std::unique_ptr<DirectoryShare> share;
  const LockFile::Guard joined;
  const std::unique_ptr<DirectoryIndex> index;
  SegmentFiles files;
  OpenChunks open_chunks;
  DirectorySpace space;
  DirectoryWriter writer;
  DirectoryCollector collector;
  std::atomic<bool> scanned;  // once: before that, a miss says nothing
  std::atomic<Clock::rep> last_scan{0}, last_tend{0};
  std::mutex looking;
  std::shared_ptr<ScanTask> next_look;   // has not begun; guarded by `looking`
  Clock::time_point look_after{};        // likewise
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
  bool after_scan = false;
  std::chrono::nanoseconds took{0};

  void run() noexcept override {
    const auto begin = Clock::now();
    read_group(reads, state->files, *state->index, state->open_chunks);
    took = Clock::now() - begin;
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

DirectoryTier::DirectoryTier(DirectoryOptions options) {
  while (options.directory.size() > 1 && options.directory.back() == '/') options.directory.pop_back();
  if (options.files == nullptr) options.files = std::make_shared<FileSystem>(options.mode);
  SegmentFiles files(State::folder(options), options.files, options.id, options.name);
  open_directory(options, files);
  if (options.root.empty()) {  // a shared one is named alike by all, and may hang
    std::error_code ignored;
    const auto canonical = std::filesystem::weakly_canonical(options.directory, ignored);
    if (!canonical.empty()) options.directory = canonical;
  }
  auto share = make_share(options);
  const DirectoryShare::Change change = share->change();
  auto index = make_index(options, *share);
  adopt_limits(options, *share, index->table().shared());
  LockFile::Guard joined = share->join();
  state_ = std::make_shared<State>(std::move(options), std::move(share), std::move(index), std::move(joined));
}

DirectoryTier::~DirectoryTier() {
  flush();
  state_->writing.close();
  state_->reading.close();
}

std::string_view DirectoryTier::name() const { return state_->options.name; }

void DirectoryTier::get(std::span<const ContentHash> hashes, Found found) {
  state_->seal_aged();
  state_->tend();
  if (state_->scanned) state_->rescan_sometimes();
  std::vector<PlacedRead> wanted(hashes.size());
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    wanted[i].index = i;
    wanted[i].hash = hashes[i];
  }
  state_->read(std::move(wanted), std::make_shared<const Found>(std::move(found)), false);
}

void DirectoryTier::contains(std::span<const ContentHash> hashes, std::span<bool> present) {
  if (!state_->scanned) run_and_wait(state_->writing, [state = state_] { state->scan(); });
  state_->rescan_sometimes();
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
  state_->tend();
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
      std::unordered_map<ContentHash, std::size_t> first;
      std::vector<std::pair<std::size_t, std::size_t>>
          repeated;  // a request, and the one before it that it repeats
      for (const std::size_t i : job->wanted) {
        if (state->has(job->requests[i].hash)) {
          job->outcomes[i] = PutOutcome::kPresent;
        } else if (const auto [known, fresh] = first.emplace(job->requests[i].hash, i); !fresh) {
          repeated.emplace_back(i, known->second);
        } else {
          chunks.push_back(&job->requests[i]);
          results.push_back(&job->outcomes[i]);
        }
      }
      state->writer.put(chunks, results);
      for (const auto& [again, before] : repeated) {
        if (job->outcomes[before] == PutOutcome::kStored) job->outcomes[again] = PutOutcome::kPresent;
      }
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

void DirectoryTier::hold_dataset(DatasetTag dataset) { state_->share->hold(dataset); }

void DirectoryTier::release_dataset(DatasetTag dataset) { state_->share->release(dataset); }

void DirectoryTier::erase(const ContentHash& hash) {
  for (const ChunkPlace& place : state_->index->find(hash)) state_->index->erase(hash, place);
}

void DirectoryTier::flush() {
  if (!state_->writer.has_older(Clock::time_point::max())) return;
  run_and_wait(state_->writing, [state = state_] { state->writer.seal(); });
  state_->later([](State& state) { state.writer.merge(); });
}

void DirectoryTier::name_chunks(DatasetTag dataset, std::uint64_t version, NamedChunks names) {
  if (state_->options.root.empty() || state_->options.durability.count() == 0) return;
  state_->collector.name(dataset, version, std::move(names));
  state_->later([](State& state) { state.collector.tell(); });
}

void DirectoryTier::unname_chunks(DatasetTag dataset, std::uint64_t version) {
  if (state_->options.root.empty() || state_->options.durability.count() == 0) return;
  state_->later([dataset, version](State& state) {
    state.collector.tell();  // for the last time
    state.collector.unname(dataset, version);
  });
}

bool DirectoryTier::name_again(DatasetTag dataset, std::uint64_t version) {
  if (state_->options.root.empty() || state_->options.durability.count() == 0) return true;
  const auto named = std::make_shared<std::atomic<bool>>(false);
  const bool answered = run_and_wait(state_->writing, [=, state = state_] {
    if (!state->scanned) state->scan();
    *named = state->collector.tell_again(dataset, version);
  });
  return *named || !answered;
}

void DirectoryTier::tend() { state_->tend(); }

void DirectoryTier::durable(std::span<const ContentHash> hashes, std::span<bool> durable) {
  const auto listed = std::make_shared<std::atomic<bool>>(false);
  const bool answered = run_and_wait(state_->writing, [listed, state = state_] { *listed = state->writer.scan(true); });
  for (std::size_t i = 0; i < hashes.size(); ++i)
    durable[i] = answered && *listed && state_->options.durable && state_->index->find(hashes[i]).count > 0;
}

std::string DirectoryTier::identity() {
  const auto identity = std::make_shared<std::string>();
  const bool answered =
      run_and_wait(state_->writing, [identity, state = state_] { *identity = state->files.identity(kReliedOnFile); });
  return answered ? *identity : "";
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
  for (const auto& [slot, segment] : state_->index->table().all()) usage.chunks += segment.chunks;
  usage.chunks += state_->open_chunks.size();
  return usage;
}

}  // namespace alnair
