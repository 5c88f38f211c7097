// The part of SegmentAllocator that counts files and evicts segments. All of it runs under the allocation
// lock.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <memory>
#include <string_view>
#include <thread>

#include "cache/memory/allocator.h"
#include "cache/record.h"
#include "core/bus_guard.h"
#include "core/sole_opener.h"

namespace alnair {
namespace {

// A dataset larger than node memory asks for room with each chunk it fetches.
constexpr std::uint64_t kRefusalMilliseconds = 20;

// What was prefetched this long ago and not read since may go, if others need its room.
constexpr std::uint64_t kForgottenMilliseconds = 60'000;

// How long to wait for evicted segments to be unmapped, before the chunk is refused.
constexpr int kDeadPauses = 8;
constexpr std::chrono::microseconds kDeadPause{250};

// The sequence in "segment-17" or "dead-17".
std::optional<std::uint64_t> sequence_of(std::string_view name) {
  for (const std::string_view prefix : {"segment-", "dead-"}) {
    if (!name.starts_with(prefix)) continue;
    std::uint64_t sequence = 0;
    const char* end = name.data() + name.size();
    const auto [parsed, error] = std::from_chars(name.data() + prefix.size(), end, sequence);
    if (error == std::errc() && parsed == end) return sequence;
  }
  return std::nullopt;
}

}  // namespace

// Files that no slot knows are left over from killed processes; as files are made and renamed under the
// allocation lock only, they can be removed by its holder.
SegmentAllocator::Blocks SegmentAllocator::count_blocks(bool remove_orphans) {
  Blocks blocks;
  blocks.of_slot.resize(control_.slots());
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(directory_.c_str()), closedir);
  while (const dirent* entry = directory ? readdir(directory.get()) : nullptr) {
    struct stat status {};
    if (fstatat(dirfd(directory.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(status.st_mode))
      continue;
    const std::uint64_t bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
    if (const auto sequence = sequence_of(entry->d_name)) {
      if (spare_ && *sequence == spare_->sequence) continue;
      const SegmentSlot& slot = control_.slot(*sequence);
      const SegmentState state = slot.state();
      if (slot.sequence() != *sequence || state == SegmentState::kFree) {
        if (remove_orphans && unlinkat(dirfd(directory.get()), entry->d_name, 0) == 0) continue;
      } else {
        const bool transit = slot.is_transit();
        std::uint64_t& counted = blocks.of_slot[*sequence & (control_.slots() - 1)];
        if (counted != 0) continue;  // seen under both names: it was renamed meanwhile
        counted = bytes;
        if (transit) blocks.transit += bytes;
        if (state == SegmentState::kDead) (transit ? blocks.dead_transit : blocks.dead) += bytes;
      }
    }
    blocks.total += bytes;
  }
  return blocks;
}

void SegmentAllocator::free_dead_segments() {
  for (std::uint32_t number = 0; number < control_.slots(); ++number) {
    SegmentSlot& slot = control_.slot(number);
    const SegmentState state = slot.state();
    const std::uint64_t sequence = slot.sequence();
    if (state == SegmentState::kFree) continue;
    if ((sequence & (control_.slots() - 1)) == number) {  // else it is garbage
      if (state == SegmentState::kOpen || state == SegmentState::kSealed) continue;
      if (state == SegmentState::kDead) {
        if (!locks_.is_locked(lock_offset(LockPurpose::kSegmentMapped, number))) retire(number);
        continue;
      }
      unlink(segments_.path(sequence).c_str());
      unlink(segments_.dead_path(sequence).c_str());
    }
    slot.set(sequence, SegmentState::kFree);
  }
}

// While nothing passes through, what is kept may use transit's room as well: a dataset that fits, fits whole. Transit takes it
// back when it needs it, from datasets that live jobs hold, too.
bool SegmentAllocator::make_room(const SegmentKind& kind, std::uint64_t bytes,
                                 std::vector<Survivor>* survivors) {
  const bool transit = kind.is_transit();
  const MemoryLimits& limits = control_.limits();
  // The index may grow at any time: its next table's room is kept free.
  const std::uint64_t all = limits.limit - std::min(limits.limit, index_.next_bytes());
  segments_.drop_evicted();
  free_dead_segments();
  for (int patience = clock_() < impatient_until_ ? 0 : kDeadPauses;;) {
    const Blocks blocks = count_blocks(true);
    const std::uint64_t used = transit ? blocks.transit : blocks.total - blocks.transit;
    const std::uint64_t dead = transit ? blocks.dead_transit : blocks.dead;
    const std::uint64_t budget =
        transit ? limits.transit : all - std::min(all, blocks.transit > 0 ? limits.transit : 0);
    const std::uint64_t living = blocks.total - blocks.dead - blocks.dead_transit;
    // Early, so that those who map it have let go of it when its room is needed.
    if (transit && used - dead + bytes > budget / 2 && evict_passed(blocks)) continue;
    if (used + bytes <= budget && blocks.total + bytes <= all) return true;
    // Room that is on its way: evicted segments go when their last process unmaps them. Evicting more in the
    // meantime would throw away everything. Mostly that is a matter of microseconds (this process's janitor is at it);
    // but a View may hold them for long.
    if (used - dead + bytes <= budget && living + bytes <= all) {
      if (patience-- == 0) {
        impatient_until_ = clock_() + kRefusalMilliseconds;
        return false;
      }
      std::this_thread::sleep_for(kDeadPause);
      segments_.drop_evicted();
      free_dead_segments();
      continue;
    }
    const bool lent = transit && used - dead + bytes <= budget;
    if (!evict_one(kind, lent ? SegmentArea::kMain : kind.area, blocks, survivors)) return false;
  }
}

// For `kind`, a segment of transit or of what is kept, as `area` says.
bool SegmentAllocator::evict_one(const SegmentKind& kind, SegmentArea area, const Blocks& blocks,
                                 std::vector<Survivor>* survivors) {
  const bool transit = area == SegmentArea::kTransit;
  if (transit && evict_passed(blocks)) return true;
  std::map<DatasetTag, bool> held;
  std::vector<std::uint32_t> slots;
  std::vector<SegmentInfo> infos;
  for (std::uint32_t number = 0; number < control_.slots(); ++number) {
    const SegmentSlot& slot = control_.slot(number);
    const SegmentState state = slot.state();
    if (state != SegmentState::kSealed && state != SegmentState::kOpen) continue;
    if (slot.is_transit() != transit) continue;
    if (state == SegmentState::kOpen && locks_.is_locked(lock_offset(LockPurpose::kSegmentOwner, number)))
      continue;
    const DatasetTag dataset = slot.dataset;
    auto known = held.find(dataset);
    if (known == held.end()) {
      const bool is_held = dataset != 0 && locks_.is_locked(lock_offset(LockPurpose::kDatasetHold, dataset));
      known = held.emplace(dataset, is_held).first;
    }
    slots.push_back(number);
    infos.push_back({dataset, known->second, slot.area == static_cast<std::uint32_t>(SegmentArea::kMain),
                     slot.sequence(), slot.last_use, blocks.of_slot[number]});
  }
  std::optional<Eviction> eviction = transit ? choose_forgotten(infos) : policy_.choose(infos, kind.dataset);
  if (!eviction && !transit && kind.is_transit() && !infos.empty()) {  // what was lent
    const auto oldest = std::ranges::min_element(infos, {}, [](const SegmentInfo& info) {
      return std::pair(info.last_use, info.sequence);
    });
    eviction = Eviction{static_cast<std::size_t>(oldest - infos.begin()), false};
  }
  if (!eviction && kind.is_transit()) return false;
  if (!eviction) {
    refused_dataset_ = kind.dataset;
    refused_until_ = clock_() + kRefusalMilliseconds;
    return false;
  }
  const std::uint32_t victim = slots[eviction->victim];
  // Keeps writers out of an open segment. If one was faster, its segment is not shown to the policy next
  // time.
  const LockFile::Guard owner = locks_.try_exclusive(lock_offset(LockPurpose::kSegmentOwner, victim));
  if (!owner) return true;
  if (eviction->keep_read_chunks && survivors != nullptr) rescue(victim, *survivors);
  evicted_bytes_ += blocks.of_slot[victim];
  evict(victim);
  return true;
}

// The oldest segment of transit of which everything was consumed, or that nobody's look-ahead waits for any more. False: there is
// none. What somebody is still to read stays: dropped, it would be fetched twice.
bool SegmentAllocator::evict_passed(const Blocks& blocks) {
  std::optional<std::uint32_t> oldest;
  for (std::uint32_t number = 0; number < control_.slots(); ++number) {
    const SegmentSlot& slot = control_.slot(number);
    if (!segments_.is_live(slot.identity) || !slot.is_transit()) continue;
    if (oldest && control_.slot(*oldest).sequence() < slot.sequence()) continue;
    const bool used_up = slot.records > 0 && slot.consumed >= slot.records;
    if (!used_up && slot.dataset != 0 && locks_.is_locked(lock_offset(LockPurpose::kDatasetHold, slot.dataset))) continue;
    if (locks_.is_locked(lock_offset(LockPurpose::kSegmentOwner, number))) continue;
    oldest = number;
  }
  if (!oldest) return false;
  const LockFile::Guard owner = locks_.try_exclusive(lock_offset(LockPurpose::kSegmentOwner, *oldest));
  if (!owner) return false;
  evicted_bytes_ += blocks.of_slot[*oldest];
  evict(*oldest);
  return true;
}

// A loop may have stopped for good in a process that lives on.
std::optional<Eviction> SegmentAllocator::choose_forgotten(const std::vector<SegmentInfo>& infos) const {
  const auto oldest = std::ranges::min_element(infos, {}, &SegmentInfo::last_use);
  if (oldest == infos.end() || oldest->last_use + kForgottenMilliseconds > clock_()) return std::nullopt;
  return Eviction{static_cast<std::size_t>(oldest - infos.begin()), false};
}

// 1. Mark the slot dead: readers that have not mapped the segment do not begin to.
// 2. Give the file its other name. (Killed before or after: free_dead_segments() knows both.)
// 3. Tell all processes, which unmap it at their next operation; this one does it now.
// 4. Unlink the file, or use it again, if nobody maps it. Otherwise it stays, and counts, and whoever makes room later looks
// again.
void SegmentAllocator::evict(std::uint32_t number) {
  SegmentSlot& slot = control_.slot(number);
  const std::uint64_t sequence = slot.sequence();
  slot.set(sequence, SegmentState::kDead);
  rename(segments_.path(sequence).c_str(), segments_.dead_path(sequence).c_str());
  control_.announce_eviction();
  segments_.drop_evicted();
  if (!locks_.is_locked(lock_offset(LockPurpose::kSegmentMapped, number))) retire(number);
}

// A dead segment that nobody maps any more: its file is make()'s to use again, or goes. Nobody may have it open: a process that was forked
// with views of it, and has not used node memory since, has a mapping without a lock.
void SegmentAllocator::retire(std::uint32_t number) {
  SegmentSlot& slot = control_.slot(number);
  const std::uint64_t sequence = slot.sequence();
  if (spare_ && spare_->sequence == sequence) return;
  if (wants_spare_ && !spare_) {
    FileDescriptor file(open(segments_.dead_path(sequence).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    if (file && is_sole_opener(file.get()) && fstat(file.get(), &status) == 0) {
      spare_ = Spare{sequence, std::move(file), static_cast<std::uint64_t>(status.st_size)};
      return;
    }
  }
  unlink(segments_.path(sequence).c_str());
  unlink(segments_.dead_path(sequence).c_str());
  slot.set(sequence, SegmentState::kFree);
}

void SegmentAllocator::drop_spare() {
  if (!spare_) return;
  unlink(segments_.dead_path(spare_->sequence).c_str());
  control_.slot(spare_->sequence).set(spare_->sequence, SegmentState::kFree);
  spare_.reset();
}

// Copies the chunks that were read since they were written, at most half a segment of them.
void SegmentAllocator::rescue(std::uint32_t number, std::vector<Survivor>& survivors) {
  const SegmentSlot& slot = control_.slot(number);
  const std::uint64_t sequence = slot.sequence();
  const auto mapping = segments_.get(sequence);
  const std::uint64_t published = slot.published;
  if (mapping == nullptr) return;
  std::uint64_t room = control_.limits().segment / 2;
  std::optional<RecordHeader> header;
  const auto read_header = [&](std::uint64_t offset) {
    return survives_bus_error([&] { return (header = mapping->header_at(offset, published)).has_value(); });
  };
  for (std::uint64_t offset = kFirstRecord; read_header(offset); offset += record_size(header->length)) {
    const Location place{static_cast<std::uint32_t>(sequence % SharedIndex::kSegmentIds),
                         static_cast<std::uint32_t>(offset)};
    if (header->length > room || !index_.is_marked(header->hash, place)) continue;
    Buffer copy(header->length);
    const auto payload = record_payload(mapping->bytes(), offset, *header);
    if (!survives_bus_error([&] {
          std::copy(payload.begin(), payload.end(), copy.data());
          return verify_record(*header, copy.bytes(), mapping->nonce());
        }))
      continue;
    room -= header->length;
    survivors.push_back({header->hash, slot.dataset, std::move(copy).freeze()});
  }
}

// Under the lock, else what is freed and what is taken meanwhile would count twice.
TierUsage SegmentAllocator::usage() {
  const LockFile::Guard lock = allocation_lock();
  const Blocks blocks = count_blocks(false);
  TierUsage usage;
  usage.used_bytes = blocks.total;
  usage.limit_bytes = control_.limits().limit;
  usage.transit_bytes = blocks.transit;
  for (std::uint32_t number = 0; number < control_.slots(); ++number)
    if (segments_.is_live(control_.slot(number).identity)) usage.chunks += control_.slot(number).records;
  return usage;
}

}  // namespace alnair
