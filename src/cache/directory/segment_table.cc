#include "cache/directory/segment_table.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <system_error>

#include "alnair/core/error.h"
#include "core/random.h"

namespace alnair {
namespace {

constexpr std::uint64_t kHeadBytes = 64;

}  // namespace

struct SegmentTable::Slot {
  std::atomic<std::uint64_t> sequence;  // 0: never used; odd: free, or being written; even: the rest counts
  std::atomic<std::uint64_t> nonce[2];
  std::atomic<std::uint64_t> dataset, bytes, chunks;
  std::atomic<std::int64_t> created_ns, last_used_ns;
};

SegmentTable::SegmentTable(std::uint32_t slots) : slot_count_(slots) {
  static_assert(sizeof(Slot) == 64 && sizeof(Shared) <= kHeadBytes &&
                std::atomic<std::uint64_t>::is_always_lock_free);
  map(-1, kHeadBytes + std::uint64_t{slots} * sizeof(Slot));
  shared_->node = random_word();
}

SegmentTable::SegmentTable(const std::string& path, std::uint32_t slots) {
  const auto fail = [&](int error) {
    throw CacheError(
        fmt::format("cannot share the segment table {}: {}", path, std::generic_category().message(error)));
  };
  const std::unique_ptr<int, void (*)(int*)> fd(
      new int(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)), [](int* open) {
        if (*open >= 0) ::close(*open);
        delete open;
      });
  if (*fd < 0) fail(errno);
  struct stat info;
  if (::fstat(*fd, &info) < 0) fail(errno);
  std::uint64_t bytes = info.st_size;
  if (bytes < kHeadBytes + sizeof(Slot) || (bytes - kHeadBytes) % sizeof(Slot) != 0) {
    // New (or cut by someone). Its blocks are taken now, because a store without one would be a SIGBUS.
    bytes = kHeadBytes + std::uint64_t{slots} * sizeof(Slot);
    if (::ftruncate(*fd, 0) < 0) fail(errno);
    if (const int error = ::posix_fallocate(*fd, 0, static_cast<off_t>(bytes)); error != 0) {
      (void)!::ftruncate(*fd, 0);
      fail(error);
    }
  }
  slot_count_ = static_cast<std::uint32_t>((bytes - kHeadBytes) / sizeof(Slot));
  map(*fd, bytes);
  if (shared_->node == 0) shared_->node = random_word();
}

void SegmentTable::map(int fd, std::uint64_t bytes) {
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (memory == MAP_FAILED)
    throw CacheError("cannot map a segment table: " + std::generic_category().message(errno));
  bytes_ = bytes;
  shared_ = static_cast<Shared*>(memory);
  table_ = reinterpret_cast<Slot*>(static_cast<std::byte*>(memory) + kHeadBytes);
}

SegmentTable::~SegmentTable() { ::munmap(shared_, bytes_); }

std::optional<KnownSegment> SegmentTable::get(std::uint32_t index) const {
  if (index >= slot_count_) return std::nullopt;
  const Slot& slot = table_[index];
  const std::uint64_t sequence = slot.sequence.load(std::memory_order_acquire);
  if (sequence == 0 || sequence % 2 == 1) return std::nullopt;
  // Acquire loads: none of them moves behind the second look at the sequence number.
  KnownSegment info;
  const std::uint64_t nonce[2] = {slot.nonce[0].load(std::memory_order_acquire),
                                  slot.nonce[1].load(std::memory_order_acquire)};
  std::memcpy(info.nonce.data(), nonce, sizeof nonce);
  info.dataset = slot.dataset.load(std::memory_order_acquire);
  info.bytes = slot.bytes.load(std::memory_order_acquire);
  info.chunks = slot.chunks.load(std::memory_order_acquire);
  info.created_ns = slot.created_ns.load(std::memory_order_acquire);
  info.last_used_ns = slot.last_used_ns.load(std::memory_order_acquire);
  if (slot.sequence.load(std::memory_order_relaxed) != sequence) return std::nullopt;
  return info;
}

void SegmentTable::mark_used(std::uint32_t index, std::int64_t now_ns) {
  if (index < slot_count_) table_[index].last_used_ns.store(now_ns, std::memory_order_relaxed);
}

std::vector<std::pair<std::uint32_t, KnownSegment>> SegmentTable::all() const {
  std::vector<std::pair<std::uint32_t, KnownSegment>> found;
  for (std::uint32_t i = 0; i < slot_count_; ++i) {
    if (const auto info = get(i)) found.emplace_back(i, *info);
  }
  return found;
}

bool SegmentTable::knows(const SegmentNonce& nonce) const {
  for (std::uint32_t i = 0; i < slot_count_; ++i) {
    if (const auto info = get(i); info && info->nonce == nonce) return true;
  }
  return false;
}

std::optional<std::uint32_t> SegmentTable::reserve(const KnownSegment& info) {
  // Slots are taken in turn: a word of the index that still names an old segment thus leads nowhere for long.
  const std::uint64_t start = shared_->next_slot.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < slot_count_; ++i) {
    const auto index = static_cast<std::uint32_t>((start + i) % slot_count_);
    Slot& slot = table_[index];
    const std::uint64_t sequence = slot.sequence.load(std::memory_order_relaxed);
    if (sequence != 0 && sequence % 2 == 0) continue;
    const std::uint64_t writing = sequence | 1;
    slot.sequence.store(writing, std::memory_order_relaxed);
    std::uint64_t nonce[2];  // release stores: none of them moves before the odd number
    std::memcpy(nonce, info.nonce.data(), sizeof nonce);
    slot.nonce[0].store(nonce[0], std::memory_order_release);
    slot.nonce[1].store(nonce[1], std::memory_order_release);
    slot.dataset.store(info.dataset, std::memory_order_release);
    slot.bytes.store(info.bytes, std::memory_order_release);
    slot.chunks.store(info.chunks, std::memory_order_release);
    slot.created_ns.store(info.created_ns, std::memory_order_release);
    slot.last_used_ns.store(info.last_used_ns, std::memory_order_release);
    shared_->next_slot.store(index + 1, std::memory_order_relaxed);
    return index;
  }
  return std::nullopt;
}

void SegmentTable::publish(std::uint32_t index) {
  std::atomic<std::uint64_t>& sequence = table_[index].sequence;
  sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void SegmentTable::remove(std::uint32_t index) {
  std::atomic<std::uint64_t>& sequence = table_[index].sequence;
  const std::uint64_t now = sequence.load(std::memory_order_relaxed);
  if (now != 0 && now % 2 == 0) sequence.store(now + 1, std::memory_order_release);
}

}  // namespace alnair
