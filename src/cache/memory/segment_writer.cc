#include "cache/memory/segment_writer.h"

#include <sys/uio.h>

#include <array>
#include <chrono>
#include <thread>

#include "cache/record.h"

namespace alnair {
namespace {

// How long to wait for segments that other threads and processes are appending to, when no more may be
// opened.
constexpr std::chrono::milliseconds kOwnerTimeout{1000};

}  // namespace

bool SegmentWriter::append(const SegmentKind& kind, const ContentHash& hash,
                           std::span<const std::byte> bytes) {
  const std::uint64_t size = record_size(bytes.size());
  if (kFirstRecord + size > arena_.control().limits().segment) return false;
  if (segment_ && (kind.dataset != kind_.dataset || kind.area != kind_.area)) segment_.reset();
  kind_ = kind;
  return obtain(kind, size) && write(hash, bytes);
}

// Leaves segment_ with room for `size` bytes more.
bool SegmentWriter::obtain(const SegmentKind& kind, std::uint64_t size) {
  SegmentAllocator& allocator = arena_.allocator();
  std::vector<Survivor>* survivors = rescuing_ ? &survivors_ : nullptr;
  if (segment_ && !allocator.fits(kind, segment_->position, size)) {
    allocator.seal(*segment_);
    segment_.reset();
  }
  const auto deadline = std::chrono::steady_clock::now() + kOwnerTimeout;
  while (!segment_) {
    segment_ = allocator.adopt(kind, size);
    if (!segment_) segment_ = allocator.make(kind, size, survivors);
    if (segment_) break;
    if (!allocator.is_busy(kind, size) || std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return allocator.reserve(*segment_, kind, size, survivors);
}

// 1. Write the record where nobody looks yet: beyond `published`. A kill leaves garbage there, which the
// segment's next
//    owner overwrites.
// 2. Publish: the segment now contains the record. A kill before step 3 leaves a record that nobody finds; it
// goes with
//    its segment.
// 3. Enter it in the index.
bool SegmentWriter::write(const ContentHash& hash, std::span<const std::byte> bytes) {
  const RecordHeader header = make_record_header(hash, bytes, segment_->nonce);
  constexpr std::array<std::byte, kRecordAlignment> kPadding{};
  const std::uint64_t size = record_size(bytes.size()), written = sizeof header + bytes.size();
  std::array<iovec, 3> parts{{{const_cast<RecordHeader*>(&header), sizeof header},
                              {const_cast<std::byte*>(bytes.data()), bytes.size()},
                              {const_cast<std::byte*>(kPadding.data()), size - written}}};
  const ssize_t n = pwritev(segment_->file.get(), parts.data(), static_cast<int>(parts.size()),
                            static_cast<off_t>(segment_->position));
  if (n != static_cast<ssize_t>(size)) {
    arena_.allocator().note_fault();
    return false;
  }
  const Location place{static_cast<std::uint32_t>(segment_->sequence % SharedIndex::kSegmentIds),
                       static_cast<std::uint32_t>(segment_->position)};
  segment_->position += size;
  SegmentSlot& slot = arena_.control().slot(segment_->sequence);
  slot.published.store(static_cast<std::uint32_t>(segment_->position), std::memory_order_release);
  slot.records.fetch_add(1, std::memory_order_relaxed);
  arena_.touch(slot);
  return arena_.index().insert(hash, place,
                               [&](std::uint32_t id) { return arena_.live_slot(id) == nullptr; });
}

void SegmentWriter::write_survivors() {
  rescuing_ = false;  // what is evicted to make room for survivors goes for good: this ends
  for (const Survivor& survivor : survivors_)
    if (!arena_.holds(survivor.hash))
      append({survivor.dataset, SegmentArea::kMain}, survivor.hash, survivor.bytes.bytes());
  survivors_.clear();
}

}  // namespace alnair
