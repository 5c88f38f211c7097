// The directory tier: chunks in a directory of a local or network file system, in immutable segments.
//
// Every read is checked against the content hash. A file system that hangs costs one bounded wait: then
// everything is a miss, and every put refused, until it answers again. Several processes, and hosts, may use
// one directory at once.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "alnair/cache/tier.h"
#include "alnair/dataset/dataset.h"
#include "cache/directory/file_system.h"
#include "core/metrics.h"

namespace alnair {

// In a directory that Redis relies on: Redis may evict chunks because they are here.
constexpr std::string_view kReliedOnFile = "relied-on";

struct DirectoryOptions {
  std::string directory;  // made if it is missing (its parent too), mode 0700
  // Not empty: `directory` lies below this one, which other hosts, and as far as `mode` allows other users, write too. It
  // is made if no more than its last folder is missing, and not made again when it disappears. Owners do not matter.
  std::string root;
  std::uint32_t mode = 0700;  // of what is made below `root`; files get its read and write bits
  std::string
      node_directory;  // node memory's: locks and what processes share; empty: this process shares nothing
  std::uint64_t limit_bytes = 0;  // of all files in it; 0: leave a tenth of the disk free
  EvictionPolicy eviction = EvictionPolicy::kNone;
  bool durable = false;  // fsync segments, and the directory, before they count as stored by flush()
  TierId id = TierId::kDisk;
  std::string name = "disk";

  std::chrono::milliseconds seal_after{
      5'000};  // age at which an open segment is sealed by the next get or put
  std::chrono::milliseconds stall_limit{10'000};  // a call to the file system that takes longer hangs
  std::chrono::milliseconds rescan_after{500};    // reads look for other hosts' segments no more often
  std::chrono::milliseconds relist_after{0};      // then they do not trust the directory's time of change; 0: they do
  std::size_t read_threads = 8;
  // Called before chunks leave the directory for want of room, with all of a segment's: tells those who rely on them.
  // false: they cannot be told, and the segment stays. May take a few seconds.
  std::function<bool(std::span<const ContentHash>)> before_drop;
  // With `root`: chunks that no live job has named for so long are given up; 0: only for want of room. And how often that is looked
  // after, while the tier is used; 0: a quarter of it, 30 seconds to 5 minutes.
  std::chrono::seconds durability{0};
  std::chrono::milliseconds tend_after{0};
  std::uint64_t segment_bytes = 0;    // 0: 64 MiB, or less where the limit is small
  std::shared_ptr<FileSystem> files;  // null: the real one
};

// The chunks that a live job names: how to ask for them. `ask` is called from any thread, and may take a while.
struct NamedChunks {
  struct Names {
    std::vector<std::uint64_t> chunks;  // the first 64 bits of their content hashes, ascending
    bool complete = false;              // all of the dataset's version
  };
  std::function<Names()> ask;
};

// A tier on whose durability others may rely.
class DurableTier : public Tier {
 public:
  // Says that a live job names these chunks of a version of a dataset, until unname_chunks() or the death of this process: then they
  // stay for DirectoryOptions::durability. Returns at once. Who names a version again asks for the same, and both unname it.
  virtual void name_chunks(DatasetTag dataset, std::uint64_t version, NamedChunks names) {
    (void)dataset, (void)version, (void)names;
  }
  virtual void unname_chunks(DatasetTag dataset, std::uint64_t version) { (void)dataset, (void)version; }
  // Says it once more of all chunks of a version. false: the directory does not know them all, for so long; they are to be named
  // as above. Waits.
  virtual bool name_again(DatasetTag dataset, std::uint64_t version) {
    (void)dataset, (void)version;
    return true;
  }
  // As uses of the tier do now and then: lets it give up what no live job names, if it is time for that. Returns at once.
  virtual void tend() {}

  // One bool a chunk: whether it would survive the death of this process and host, by a look at the directory that begins after
  // the call. It may leave afterwards, for want of room: see DirectoryOptions::before_drop. Waits.
  virtual void durable(std::span<const ContentHash> hashes, std::span<bool> durable) = 0;

  // Whether contains() and durable() would find every chunk there is: false where there are more than this host can index.
  virtual bool knows_all() { return true; }

  // Names the directory, on all hosts alike; empty: it cannot be told now. Once it is asked for, the directory is marked as one
  // that is relied on: who cannot call before_drop drops nothing there. Waits.
  virtual std::string identity() = 0;
};

class DirectoryTier : public DurableTier {
 public:
  // Makes the directory if need be. Throws CacheError if it belongs to another user, or is no directory (a
  // symbolic link, say); ConfigError if `root` and its parent are missing, or it is no directory. Anything else that is
  // wrong with it makes a tier that misses, and is logged.
  explicit DirectoryTier(DirectoryOptions options);
  // Seals what is open. Waits while the file system answers.
  ~DirectoryTier() override;

  std::string_view name() const override;
  void get(std::span<const ContentHash> hashes, Found found) override;
  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override;
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override;
  void hold_dataset(DatasetTag dataset) override;
  void release_dataset(DatasetTag dataset) override;
  void erase(const ContentHash& hash) override;
  void flush() override;
  TierUsage usage() const override;
  void durable(std::span<const ContentHash> hashes, std::span<bool> durable) override;
  bool knows_all() override;
  std::string identity() override;
  void name_chunks(DatasetTag dataset, std::uint64_t version, NamedChunks names) override;
  void unname_chunks(DatasetTag dataset, std::uint64_t version) override;
  bool name_again(DatasetTag dataset, std::uint64_t version) override;
  void tend() override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with tasks, which may hang
};

}  // namespace alnair
