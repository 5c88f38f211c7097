#include "cache/memory/segment_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <system_error>
#include <vector>

#include "core/block_signals.h"

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
  if (generation_ !=
      fork_generation()) {  // inherited: the thread does not exist here, the mutex may be locked for ever
    janitor_.release();
    return;
  }
  if (janitor_ != nullptr) {
    stopping_ = true;
    control_.announce_eviction();
    janitor_->join();
  }
  drop_all();
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
  SegmentHeader header;
  void* memory = MAP_FAILED;
  if (pread(fd, &header, sizeof header, 0) == sizeof header && header.magic == kSegmentMagic &&
      header.sequence == sequence && header.nonce == nonce)
    memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return nullptr;
  auto mapping = std::make_shared<SegmentMapping>(locks_, offset, sequence, nonce,
                                                  std::span(static_cast<const std::byte*>(memory), size));
  locks_.try_lock_shared(offset);  // the mapping's own share; the guard's ends with this function

  auto fresh = std::make_unique<Entry>(mapping);
  std::unique_ptr<Entry> old;
  const std::lock_guard guard(mutex_);
  const Entry* present = entries_[number].load();
  if (present != nullptr && (*present)->sequence() == sequence) return *present;  // another thread was faster
  old.reset(entries_[number].exchange(fresh.release(), std::memory_order_acq_rel));
  if (janitor_ == nullptr) start_janitor();
  return mapping;
}

// So that evicted segments do not wait for the next operation of a process that is idle. Sleeps until there
// is an eviction. Signals are for the threads that the program made itself.
void SegmentMap::start_janitor() {
  const BlockSignals blocked;
  try {
    janitor_ = std::make_unique<std::thread>([this] {
      for (std::uint32_t seen = control_.evictions(); !stopping_; seen = control_.wait_for_eviction(seen))
        drop_evicted();
    });
  } catch (const std::system_error&) {
  }  // no more threads: evicted segments wait for the next operation
}

void SegmentMap::drop_evicted() {
  const std::uint32_t evictions = control_.evictions();
  if (seen_evictions_.load(std::memory_order_relaxed) == evictions) return;
  if (seen_evictions_.exchange(evictions, std::memory_order_relaxed) == evictions) return;
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
