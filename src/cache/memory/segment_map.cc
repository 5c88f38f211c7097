#include "cache/memory/segment_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <vector>

namespace alnair {

// All segment maps of this process and of those it was forked from. A list without a mutex, of nodes that are
// never freed but used again: a forked child walks it at once.
struct SegmentMap::Registration {
  std::atomic<SegmentMap*> map{nullptr};
  Registration* next = nullptr;

  static std::atomic<Registration*> first;

  static Registration* add(SegmentMap* map) {
    for (Registration* node = first.load(std::memory_order_acquire); node != nullptr; node = node->next) {
      SegmentMap* none = nullptr;
      if (node->map.compare_exchange_strong(none, map)) return node;
    }
    auto* node = new Registration;
    node->map = map;
    node->next = first.load(std::memory_order_acquire);
    while (!first.compare_exchange_weak(node->next, node)) {
    }
    return node;
  }
};
std::atomic<SegmentMap::Registration*> SegmentMap::Registration::first{nullptr};

SegmentMapping::~SegmentMapping() {
  munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (locked_by_.load() == fork_generation()) locks_.unlock(lock_);
}

bool SegmentMapping::file_has(std::uint64_t wanted, const std::string& path) {
  if (wanted <= file_bytes_.load(std::memory_order_relaxed)) return true;
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return false;
  file_bytes_.store(static_cast<std::uint64_t>(status.st_size), std::memory_order_relaxed);
  return wanted <= static_cast<std::uint64_t>(status.st_size);
}

void SegmentMapping::relock() {
  if (locks_.try_lock_shared(lock_)) locked_by_ = fork_generation();
}

SegmentMap::SegmentMap(std::string directory, LockFile& locks, MemoryControl& control)
    : directory_(std::move(directory)),
      locks_(locks),
      control_(control),
      entries_(new std::atomic<Entry*>[control.slots()]()) {
  adopt_inherited();
  registration_ = Registration::add(this);
}

SegmentMap::~SegmentMap() {
  registration_->map = nullptr;
  if (generation_ == fork_generation()) drop_all();  // an inherited mutex may be locked for ever
}

void SegmentMap::adopt_inherited() {
  for (Registration* node = Registration::first.load(); node != nullptr; node = node->next) {
    SegmentMap* parents = node->map.load();
    if (parents == nullptr || parents->generation_ == generation_ || &parents->locks_ != &locks_) continue;
    for (std::uint32_t slot = 0; slot < parents->control_.slots(); ++slot) {
      Entry* inherited = parents->entries_[slot].exchange(nullptr);
      if (inherited == nullptr) continue;
      (*inherited)->relock();
      if (slot < control_.slots() && entries_[slot] == nullptr) {
        entries_[slot] = inherited;
      } else {
        delete inherited;
      }
    }
    node->map = nullptr;
  }
}

std::shared_ptr<SegmentMapping> SegmentMap::get(std::uint64_t sequence) {
  {
    const std::shared_lock lock(mutex_);
    const Entry* entry = entries_[sequence & (control_.slots() - 1)].load(std::memory_order_acquire);
    if (entry != nullptr && (*entry)->sequence() == sequence) return *entry;
  }
  return map(sequence);
}

// 1. Take the slot's shared lock: from here on, who evicts the segment sees that it is mapped.
// 2. Only then look whether the segment is live. If it is not, the evictor may not have seen the lock: leave.
// 3. Open, map, and check that the file is that segment.
std::shared_ptr<SegmentMapping> SegmentMap::map(std::uint64_t sequence) {
  const std::uint64_t number = sequence & (control_.slots() - 1);
  const std::uint64_t offset = lock_offset(LockPurpose::kSegmentMapped, number);
  LockFile::Guard lock = locks_.try_shared(offset);
  SegmentSlot& slot = control_.slot(number);
  if (!lock || slot.sequence() != sequence || !is_live(slot.identity)) return nullptr;
  const std::uint64_t size = control_.limits().segment, nonce = slot.nonce;
  const int fd = open(path(sequence).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return nullptr;
  struct stat status {};
  SegmentHeader header;
  void* memory = MAP_FAILED;
  if (pread(fd, &header, sizeof header, 0) == sizeof header && header.magic == kSegmentMagic &&
      header.sequence == sequence && header.nonce == nonce && fstat(fd, &status) == 0)
    memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return nullptr;
  auto mapping = std::make_shared<SegmentMapping>(locks_, offset, sequence, nonce,
                                                  std::span(static_cast<const std::byte*>(memory), size),
                                                  static_cast<std::uint64_t>(status.st_size));
  locks_.try_lock_shared(offset);  // the mapping's own share; the guard's ends with this function

  auto fresh = std::make_unique<Entry>(mapping);
  std::unique_ptr<Entry> old;
  const std::lock_guard guard(mutex_);
  const Entry* present = entries_[number].load();
  if (present != nullptr && (*present)->sequence() == sequence) return *present;  // another thread was faster
  old.reset(entries_[number].exchange(fresh.release(), std::memory_order_acq_rel));
  return mapping;
}

void SegmentMap::drop_evicted() {
  const std::uint32_t evictions = control_.evictions().load(std::memory_order_acquire);
  if (evictions == seen_evictions_.load(std::memory_order_relaxed)) return;
  seen_evictions_.store(evictions, std::memory_order_relaxed);
  drop(false);
}

void SegmentMap::drop_all() { drop(true); }

void SegmentMap::drop(bool all) {
  std::vector<std::unique_ptr<Entry>> dropped;  // unmapped after the mutex is released
  const std::lock_guard guard(mutex_);
  for (std::uint32_t number = 0; number < control_.slots(); ++number) {
    const Entry* entry = entries_[number].load();
    if (entry == nullptr) continue;
    const std::uint64_t identity = control_.slot(number).identity;
    if (!all && identity >> 8 == (*entry)->sequence() && is_live(identity)) continue;
    dropped.emplace_back(entries_[number].exchange(nullptr));
  }
}

}  // namespace alnair
