#include "cache/memory/control.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <ctime>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "alnair/core/hash.h"
#include "cache/record.h"
#include "cache/shared_index.h"
#include "core/bus_guard.h"

namespace alnair {
namespace {

constexpr std::uint64_t kControlMagic = 0x316c74636e6c61;  // "alnctl1"

// Twice as many slots as segments fit, so that evicted segments that are still mapped have a place; and some for transit, whose
// segments are smaller.
std::uint32_t slots_for(const MemoryLimits& limits) {
  const std::uint64_t segments = limits.limit / limits.segment + 1;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(std::bit_ceil(2 * segments + 64), 128, SharedIndex::kSegmentIds / 4));
}

}  // namespace

struct MemoryControl::Header {
  std::uint64_t magic;
  std::uint64_t limit, transit, segment, policy, slots;
  std::uint64_t checksum;  // of all above
  std::uint64_t unused;
  alignas(64) std::atomic<std::uint64_t> next_sequence;
  std::atomic<std::uint32_t> evictions;

  std::uint64_t computed_checksum() const {
    return checksum64(std::as_bytes(std::span(this, 1)).first(offsetof(Header, checksum)));
  }
};

std::unique_ptr<MemoryControl> MemoryControl::open(const std::string& path) {
  static_assert(sizeof(Header) == 128);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return nullptr;
  struct stat status {};
  std::unique_ptr<MemoryControl> control(new MemoryControl());
  if (fstat(fd, &status) == 0 && status.st_size > static_cast<off_t>(sizeof(Header))) {
    control->bytes_ = static_cast<std::uint64_t>(status.st_size);
    void* memory = mmap(nullptr, control->bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) control->header_ = static_cast<Header*>(memory);
  }
  close(fd);
  if (control->header_ == nullptr) return nullptr;
  guard_mapping(control->header_, control->bytes_);
  const Header* header = control->header_;
  if (header->magic != kControlMagic || header->checksum != header->computed_checksum() ||
      control->bytes_ != sizeof(Header) + header->slots * sizeof(SegmentSlot))
    return nullptr;
  control->path_ = path;
  control->device_ = status.st_dev;
  control->inode_ = status.st_ino;
  control->limits_ = {header->limit, header->transit, header->segment,
                      static_cast<EvictionPolicy>(header->policy)};
  control->slot_count_ = static_cast<std::uint32_t>(header->slots);
  control->slots_ = reinterpret_cast<SegmentSlot*>(control->header_ + 1);
  return control;
}

std::unique_ptr<MemoryControl> MemoryControl::make(const std::string& path, const MemoryLimits& limits) {
  const std::string unfinished = path + "-new";
  unlink(unfinished.c_str());
  const int fd = ::open(unfinished.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  int error = fd < 0 ? errno : 0;
  Header header{};
  header.magic = kControlMagic;
  header.limit = limits.limit;
  header.transit = limits.transit;
  header.segment = limits.segment;
  header.policy = static_cast<std::uint64_t>(limits.policy);
  header.slots = slots_for(limits);
  header.checksum = header.computed_checksum();
  // posix_fallocate returns its error; what it allocates reads as zeros: free slots.
  if (error == 0)
    error = posix_fallocate(fd, 0, static_cast<off_t>(sizeof header + header.slots * sizeof(SegmentSlot)));
  if (error == 0 && pwrite(fd, &header, sizeof header, 0) != sizeof header) error = errno;
  if (fd >= 0) close(fd);
  if (error == 0 && rename(unfinished.c_str(), path.c_str()) != 0) error = errno;
  std::unique_ptr<MemoryControl> control = error == 0 ? open(path) : nullptr;
  if (control == nullptr) {
    unlink(unfinished.c_str());
    throw CacheError(fmt::format("cannot make {}: {}", path, std::strerror(error)));
  }
  return control;
}

MemoryControl::~MemoryControl() {
  if (header_ == nullptr) return;
  unguard_mapping(header_);
  munmap(header_, bytes_);
}

std::atomic<std::uint64_t>& MemoryControl::next_sequence() { return header_->next_sequence; }

std::uint32_t MemoryControl::evictions() const { return header_->evictions.load(std::memory_order_acquire); }

// A futex in shared memory: idle processes sleep at no cost.
void MemoryControl::announce_eviction() {
  header_->evictions.fetch_add(1, std::memory_order_acq_rel);
  syscall(SYS_futex, &header_->evictions, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

std::uint32_t MemoryControl::wait_for_eviction(std::uint32_t seen) const {
  const timespec timeout{5, 0};
  syscall(SYS_futex, &header_->evictions, FUTEX_WAIT, seen, &timeout, nullptr, 0);
  return evictions();
}

bool MemoryControl::is_current() const {
  struct stat status {};
  return lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_ &&
         static_cast<std::uint64_t>(status.st_size) == bytes_;
}

}  // namespace alnair
