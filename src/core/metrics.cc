#include "core/metrics.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <new>

#include <fmt/format.h>

namespace alnair {
namespace {

constexpr std::uint64_t kMagic = 0x31746d72696e6c61;  // "alnirmt1"

struct Block {
  std::uint64_t magic;
  pid_t owner;
  int fd;
  Metrics metrics;
};

std::atomic<Block*> g_block{nullptr};

Block* map_block(int fd) {
  void* memory = mmap(nullptr, sizeof(Block), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<Block*>(memory);
}

// A memfd has no name to leave behind after a kill, yet /proc/PID/fd/N opens it.
Block* make_block() {
  const int fd = memfd_create("alnair-metrics", MFD_CLOEXEC);
  Block* block = fd >= 0 && ftruncate(fd, sizeof(Block)) == 0 ? map_block(fd) : nullptr;
  if (block == nullptr) {  // counts of this process only
    if (fd >= 0) close(fd);
    block = new Block();
    block->fd = -1;
  } else {
    block->fd = fd;
  }
  block->magic = kMagic;
  block->owner = getpid();
  return block;
}

Block& block() {
  Block* current = g_block.load(std::memory_order_acquire);
  if (current != nullptr) return *current;
  Block* fresh = make_block();
  if (g_block.compare_exchange_strong(current, fresh)) return *fresh;
  if (fresh->fd >= 0) {
    close(fresh->fd);
    munmap(fresh, sizeof(Block));
  } else {
    delete fresh;
  }
  return *current;
}

constexpr std::string_view kCounterNames[] = {
    "s3_get_object",   "s3_head_object", "s3_list_objects", "s3_retries",      "s3_hedges", "s3_throttled", "s3_bytes_received",
    "s3_mismatches",   "source_errors",  "opened_datasets", "reads",           "read_bytes", "wait_us",     "wait_tiers_us", "wait_source_us", "prefetched_chunks",
    "catalog_faults",  "flush_dirty_bytes", "flush_dirty_seconds", "flush_counted_seconds",
    "flush_written_bytes", "flush_released_chunks", "flush_exposed_chunks",
    "flush_evicted_keys", "flush_evicted_unvouched"};
constexpr std::string_view kTierNames[] = {"memory", "disk", "redis", "spill", "source"};
constexpr std::string_view kTierCounterNames[] = {"hits",    "hit_bytes",     "misses",  "puts",  "put_bytes",
                                                  "refused", "evicted_bytes", "corrupt", "faults"};
static_assert(std::size(kCounterNames) == static_cast<std::size_t>(Counter::kCount));
static_assert(std::size(kTierNames) == static_cast<std::size_t>(TierId::kCount));
static_assert(std::size(kTierCounterNames) == static_cast<std::size_t>(TierCounter::kCount));

}  // namespace

void Metrics::record_latency(TierId tier, std::chrono::nanoseconds latency) {
  const auto micros = static_cast<std::uint64_t>(latency.count() > 0 ? latency.count() / 1000 : 0);
  const int bucket = micros == 0 ? 0 : std::min(kBuckets - 1, static_cast<int>(std::bit_width(micros)) - 1);
  bump(latency_[static_cast<int>(tier)][bucket], 1);
}

std::map<std::string, double> Metrics::snapshot() const {
  std::map<std::string, double> result;
  for (std::size_t i = 0; i < std::size(kCounterNames); ++i)
    result[std::string(kCounterNames[i])] = static_cast<double>(counters_[i].load());
  for (std::size_t tier = 0; tier < std::size(kTierNames); ++tier) {
    for (std::size_t i = 0; i < std::size(kTierCounterNames); ++i)
      result[fmt::format("{}_{}", kTierNames[tier], kTierCounterNames[i])] =
          static_cast<double>(tiers_[tier][i].load());
    std::uint64_t total = 0;
    for (const auto& bucket : latency_[tier]) total += bucket.load();
    for (const auto& [label, quantile] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
      const double rank = quantile * static_cast<double>(total);
      double value = 0;
      std::uint64_t seen = 0;
      for (int bucket = 0; bucket < kBuckets && total > 0; ++bucket) {
        seen += latency_[tier][bucket].load();
        if (static_cast<double>(seen) >= rank) {
          value = static_cast<double>(std::uint64_t{2} << bucket);  // the bucket's upper bound
          break;
        }
      }
      result[fmt::format("{}_latency_{}_us", kTierNames[tier], label)] = value;
    }
  }
  return result;
}

Metrics& metrics() { return block().metrics; }

std::string metrics_path() {
  const Block& current = block();
  return current.fd < 0 ? "" : fmt::format("/proc/{}/fd/{}", current.owner, current.fd);
}

bool attach_metrics(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat status {};
  Block* shared = fstat(fd, &status) == 0 && status.st_uid == geteuid() && status.st_size == sizeof(Block)
                      ? map_block(fd)
                      : nullptr;
  close(fd);
  if (shared == nullptr) return false;
  if (shared->magic != kMagic) {
    munmap(shared, sizeof(Block));
    return false;
  }
  g_block.store(shared, std::memory_order_release);  // the old block is leaked: others may be counting in it
  return true;
}

}  // namespace alnair
