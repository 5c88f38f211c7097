#include "cache/memory/allocator.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "cache/record.h"

namespace alnair {
namespace {

constexpr std::chrono::milliseconds kAllocationTimeout{2000};
constexpr std::uint32_t kMaxOpenSegments = 16;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLeastStep = 64 << 10;
constexpr std::uint64_t kTransitSegments = 16;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Large enough that counting files is rare, small enough that open segments take a small share of the limit.
std::uint64_t growth_step(const MemoryLimits& limits) {
  return std::clamp<std::uint64_t>(std::bit_floor(std::max<std::uint64_t>(limits.limit / 256, 1)), kLeastStep,
                                   std::max(limits.segment, kLeastStep));
}

std::uint64_t random_nonce() {
  std::uint64_t nonce = 0;
  while (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) {
  }
  return nonce;
}

}  // namespace

SegmentAllocator::SegmentAllocator(std::string directory, LockFile& locks, MemoryControl& control,
                                   SharedIndex& index, SegmentMap& segments, Clock clock)
    : directory_(std::move(directory)),
      locks_(locks),
      control_(control),
      index_(index),
      segments_(segments),
      policy_(policy_for(control.limits().policy)),
      clock_(clock),
      step_(growth_step(control.limits())) {}

// A segment that passes through goes when all of it was read: one chunk that comes late holds up the room of a whole segment, so that
// they are small.
std::uint64_t SegmentAllocator::full_size(const SegmentKind& kind) const {
  const MemoryLimits& limits = control_.limits();
  if (!kind.is_transit()) return limits.segment;
  return std::min(std::max(limits.transit / kTransitSegments, kLeastStep), limits.segment);
}

bool SegmentAllocator::fits(const SegmentKind& kind, std::uint64_t position, std::uint64_t bytes) const {
  const bool alone = position == kFirstRecord;  // larger than a full segment, if need be
  return position + bytes <= (alone ? control_.limits().segment : full_size(kind));
}

// What passes through is counted segment by segment: it would be for each chunk where the limit is small.
std::uint64_t SegmentAllocator::step_for(const SegmentKind& kind) const {
  return kind.is_transit() ? std::max(step_, full_size(kind)) : step_;
}

LockFile::Guard SegmentAllocator::allocation_lock() {
  return locks_.wait_exclusive(lock_offset(LockPurpose::kAllocation), kAllocationTimeout);
}

void SegmentAllocator::clean_up() {
  if (const LockFile::Guard lock = allocation_lock()) {
    free_dead_segments();
    count_blocks(true);
  }
}

bool SegmentAllocator::fits(const SegmentSlot& slot, const SegmentKind& kind, std::uint64_t bytes) const {
  return slot.state() == SegmentState::kOpen && slot.dataset == kind.dataset &&
         slot.area == static_cast<std::uint32_t>(kind.area) && fits(kind, slot.published, bytes);
}

bool SegmentAllocator::is_busy(const SegmentKind& kind, std::uint64_t bytes) {
  for (std::uint32_t number = 0; number < control_.slots(); ++number) {
    const SegmentSlot& slot = control_.slot(number);
    if (fits(slot, kind, bytes)) return true;
    // What has found its reader gives way to look-ahead as soon as it is written.
    if (kind.is_ahead() && slot.state() == SegmentState::kOpen && slot.is_transit() && slot.dataset == 0 &&
        locks_.is_locked(lock_offset(LockPurpose::kSegmentOwner, number)))
      return true;
  }
  return false;
}

std::optional<OwnedSegment> SegmentAllocator::adopt(const SegmentKind& kind, std::uint64_t bytes) {
  for (std::uint32_t number = 0; number < control_.slots(); ++number) {
    SegmentSlot& slot = control_.slot(number);
    if (!fits(slot, kind, bytes)) continue;
    OwnedSegment segment;
    segment.owner = locks_.try_exclusive(lock_offset(LockPurpose::kSegmentOwner, number));
    if (!segment.owner || !fits(slot, kind, bytes)) continue;  // owned, or sealed or evicted meanwhile
    segment.sequence = slot.sequence();
    segment.nonce = slot.nonce;
    segment.position = slot.published;
    segment.file =
        FileDescriptor(open(segments_.path(segment.sequence).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    SegmentHeader header;
    if (segment.file && fstat(segment.file.get(), &status) == 0 &&
        static_cast<std::uint64_t>(status.st_size) >= segment.position && segment.position >= kFirstRecord &&
        segment.position % kRecordAlignment == 0 &&
        pread(segment.file.get(), &header, sizeof header, 0) == sizeof header &&
        header.magic == kSegmentMagic && header.sequence == segment.sequence &&
        header.nonce == segment.nonce) {
      segment.reserved = static_cast<std::uint64_t>(status.st_size);
      return segment;
    }
    slot.set(segment.sequence, SegmentState::kSealed);  // its file is gone or damaged: append nothing
  }
  return std::nullopt;
}

// Under the allocation lock, step by step so that a kill at any point leaves something that is recognised:
// 1. Make room: count files, evict until the first step fits.
// 2. Fill in a free slot and mark it `making`. (Killed from here on: the next holder of the lock frees it.)
// 3. Make the file, reserve its blocks, write its header. Or take an evicted segment's: give it its name, then free its slot. (Killed in
//    between: that slot is of a segment whose file is gone.) Its old records are none in this one, which has another nonce.
// 4. Mark the slot `open`: now it can be found, adopted and evicted.
std::optional<OwnedSegment> SegmentAllocator::make(const SegmentKind& kind, std::uint64_t bytes,
                                                   std::vector<Survivor>* survivors) {
  if (refused_lately(kind)) return std::nullopt;
  const LockFile::Guard lock = allocation_lock();
  if (!lock) return std::nullopt;
  wants_spare_ = true;
  std::optional<OwnedSegment> made = make_locked(kind, bytes, survivors);
  wants_spare_ = false;
  drop_spare();
  return made;
}

std::optional<OwnedSegment> SegmentAllocator::make_locked(const SegmentKind& kind, std::uint64_t bytes,
                                                          std::vector<Survivor>* survivors) {
  const std::uint64_t size = std::min(round_up(kFirstRecord + bytes, step_for(kind)), control_.limits().segment);
  if (!may_open_another() || !make_room(kind, size, survivors)) return std::nullopt;
  std::optional<std::uint64_t> sequence = free_sequence();
  if (!sequence && spare_) {
    drop_spare();  // its slot
    sequence = free_sequence();
  }
  if (!sequence) return std::nullopt;
  SegmentSlot& slot = control_.slot(*sequence);
  OwnedSegment segment;
  segment.owner =
      locks_.try_exclusive(lock_offset(LockPurpose::kSegmentOwner, *sequence & (control_.slots() - 1)));
  if (!segment.owner) return std::nullopt;
  segment.sequence = *sequence;
  segment.nonce = random_nonce();
  segment.position = kFirstRecord;
  slot.nonce = segment.nonce;
  slot.dataset = kind.dataset;
  slot.area = static_cast<std::uint32_t>(kind.area);
  slot.last_use = clock_();
  slot.published = kFirstRecord;
  slot.records = 0;
  slot.consumed = 0;
  slot.set(*sequence, SegmentState::kMaking);
  control_.next_sequence().store(*sequence + 1);

  const std::string path = segments_.path(*sequence);
  if (!use_spare(segment, size))
    segment.file = FileDescriptor(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  const SegmentHeader header{kSegmentMagic, *sequence, segment.nonce, kind.dataset};
  if (segment.file && extend(segment, kind, size, survivors) &&
      pwrite(segment.file.get(), &header, sizeof header, 0) == sizeof header) {
    segment.reserved = size;
    slot.set(*sequence, SegmentState::kOpen);
    return segment;
  }
  ++faults_;
  unlink(path.c_str());
  slot.set(*sequence, SegmentState::kFree);
  return std::nullopt;
}

bool SegmentAllocator::use_spare(OwnedSegment& segment, std::uint64_t size) {
  wants_spare_ = false;
  if (!spare_ || rename(segments_.dead_path(spare_->sequence).c_str(), segments_.path(segment.sequence).c_str()) != 0) return false;
  control_.slot(spare_->sequence).set(spare_->sequence, SegmentState::kFree);
  segment.file = std::move(spare_->file);
  segment.reserved = std::min(spare_->bytes, size);
  if (spare_->bytes > size && ftruncate(segment.file.get(), static_cast<off_t>(size)) != 0) ++faults_;
  spare_.reset();
  return true;
}

bool SegmentAllocator::reserve(OwnedSegment& segment, const SegmentKind& kind, std::uint64_t bytes,
                               std::vector<Survivor>* survivors) {
  if (segment.position + bytes <= segment.reserved) return true;
  if (refused_lately(kind)) return false;
  const std::uint64_t size = std::min(round_up(segment.position + bytes, step_for(kind)), control_.limits().segment);
  const LockFile::Guard lock = allocation_lock();
  if (!lock || !make_room(kind, size - segment.reserved, survivors)) return false;
  if (!extend(segment, kind, size, survivors)) return false;
  segment.reserved = size;
  return true;
}

// Reserves blocks up to `size`. A full file system (others use it too) is answered by evicting. Only the new range is asked
// for: tmpfs would zero again what is reserved and not yet written.
bool SegmentAllocator::extend(const OwnedSegment& segment, const SegmentKind& kind, std::uint64_t size,
                              std::vector<Survivor>* survivors) {
  while (segment.reserved < size) {
    const int error = posix_fallocate(segment.file.get(), static_cast<off_t>(segment.reserved),
                                      static_cast<off_t>(size - segment.reserved));
    if (error == 0) return true;
    if (error == EINTR) continue;
    ++faults_;
    if (error != ENOSPC || !evict_one(kind, kind.area, count_blocks(false), survivors)) return false;
  }
  return true;
}

// The owner lock is held. The file is cut only after the last record: readers never look beyond `published`.
void SegmentAllocator::seal(OwnedSegment& segment) {
  control_.slot(segment.sequence).set(segment.sequence, SegmentState::kSealed);
  if (ftruncate(segment.file.get(), static_cast<off_t>(round_up(segment.position, kPage))) != 0) ++faults_;
}

// Seals the segment that was used longest ago if too many are open.
bool SegmentAllocator::may_open_another() {
  std::vector<std::uint32_t> opened;
  for (std::uint32_t number = 0; number < control_.slots(); ++number)
    if (control_.slot(number).state() == SegmentState::kOpen) opened.push_back(number);
  if (opened.size() < kMaxOpenSegments) return true;
  std::sort(opened.begin(), opened.end(), [&](std::uint32_t a, std::uint32_t b) {
    return control_.slot(a).last_use < control_.slot(b).last_use;
  });
  for (const std::uint32_t number : opened) {
    SegmentSlot& slot = control_.slot(number);
    OwnedSegment segment;
    segment.owner = locks_.try_exclusive(lock_offset(LockPurpose::kSegmentOwner, number));
    if (!segment.owner || slot.state() != SegmentState::kOpen) continue;
    segment.sequence = slot.sequence();
    segment.position = slot.published;
    segment.file =
        FileDescriptor(open(segments_.path(segment.sequence).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    seal(segment);
    return true;
  }
  return false;
}

std::optional<std::uint64_t> SegmentAllocator::free_sequence() {
  const std::uint64_t next = control_.next_sequence();
  for (std::uint64_t sequence = next; sequence < next + control_.slots(); ++sequence)
    if (control_.slot(sequence).state() == SegmentState::kFree) return sequence;
  return std::nullopt;
}

}  // namespace alnair
