// What a directory tier is made of, and how it reads; DirectoryTier's methods hand their work to its two pools of threads.
//
// Thread safety: all methods may be called from any thread, but that scan() and collect() run on the writing one.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cache/directory/chunk_reads.h"
#include "cache/directory/directory_collector.h"
#include "cache/directory/directory_index.h"
#include "cache/directory/directory_share.h"
#include "cache/directory/directory_space.h"
#include "cache/directory/directory_tier.h"
#include "cache/directory/directory_writer.h"
#include "core/io_pool.h"
#include "core/metrics.h"

namespace alnair {

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
    return options.directory + "/v1";  // formats lie side by side
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

  using Clock = std::chrono::steady_clock;
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

}  // namespace alnair
