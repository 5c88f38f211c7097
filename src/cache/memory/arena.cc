#include "cache/memory/arena.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "cache/memory/memory_limits.h"
#include "cache/private_directory.h"
#include "cache/record.h"
#include "core/bus_guard.h"
#include "core/log.h"

namespace alnair {
namespace {

// The format's version: another version of the library keeps its files in another folder of the same
// directory.
constexpr char kVersionFolder[] = "/v1";

// Reads all of `bytes` at `offset`; false at an error or the end of the file.
bool read_exactly(int fd, void* bytes, std::uint64_t size, std::uint64_t offset) {
  auto* to = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t n = pread(fd, to, size, static_cast<off_t>(offset));
    if (n <= 0) return false;
    to += n;
    offset += static_cast<std::uint64_t>(n);
    size -= static_cast<std::uint64_t>(n);
  }
  return true;
}

// Removes everything but the lock file. The caller holds the allocation lock.
void remove_files(const std::string& directory) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored))
    if (entry.path().filename() != "locks") std::filesystem::remove_all(entry.path(), ignored);
}

std::uint64_t index_entries(const MemoryLimits& limits) {
  return std::clamp<std::uint64_t>(limits.limit / (16 << 10), 4096, 1 << 20);
}

}  // namespace

std::unique_ptr<Arena> Arena::open(const std::string& base, const MemoryLimits& wanted,
                                   SegmentAllocator::Clock clock) {
  const std::string directory = open_private_directory(open_private_directory(base) + kVersionFolder);
  LockFile& locks = LockFile::open(directory + "/locks");
  install_bus_guard();
  const std::string path = directory + "/control";
  std::unique_ptr<MemoryControl> control = MemoryControl::open(path);
  if (control == nullptr) {
    const auto lock = locks.wait_exclusive(lock_offset(LockPurpose::kAllocation), std::chrono::seconds(5));
    if (!lock)
      throw CacheError(fmt::format("another process is making node memory in {} and does not finish", base));
    control = MemoryControl::open(path);
    if (control == nullptr) {
      if (std::filesystem::exists(path))
        log(LogLevel::kWarning, "node memory in {} is damaged: its control file is not one; beginning anew",
            base);
      remove_files(directory);
      MemoryLimits limits = wanted;
      if (limits.limit == 0) limits.limit = default_memory_limit(directory);
      control = MemoryControl::make(path, complete_limits(limits));
    }
  }
  std::unique_ptr<Arena> arena(new Arena(directory, locks, std::move(control), clock));
  arena->allocator_.clean_up();
  return arena;
}

Arena::Arena(std::string directory, LockFile& locks, std::unique_ptr<MemoryControl> control,
             SegmentAllocator::Clock clock)
    : directory_(std::move(directory)),
      locks_(locks),
      control_(std::move(control)),
      index_(directory_ + "/index", index_entries(control_->limits()), control_->limits().limit / 8, locks_,
             lock_offset(LockPurpose::kIndexGrowth)),
      segments_(directory_, locks_, *control_),
      allocator_(directory_, locks_, *control_, index_, segments_, clock),
      policy_(policy_for(control_->limits().policy)),
      clock_(clock) {}

std::optional<View> Arena::read(const ContentHash& hash, Location place, ReadFault& fault) {
  SegmentSlot* slot = live_slot(place.segment);
  if (slot == nullptr) return std::nullopt;
  const std::uint64_t sequence = slot->sequence();
  const std::uint64_t published = slot->published.load(std::memory_order_acquire);
  auto mapping = segments_.get(sequence);
  std::span<const std::byte> payload;
  if (mapping != nullptr && survives_bus_error([&] {
        const auto header = mapping->header_at(place.offset, published);
        if (!header || header->hash != hash) return false;
        payload = record_payload(mapping->bytes(), place.offset, *header);
        return verify_record(*header, payload, mapping->nonce());
      })) {
    touch(*slot);
    return View(std::move(mapping), payload, /*is_private=*/true);
  }
  return reread(hash, place, sequence, fault);
}

// Tells apart what a direct read cannot: another chunk's record (its hash has the same tag), a record that
// this process has overwritten in its own private mapping, a segment that was evicted meanwhile, and damage.
std::optional<View> Arena::reread(const ContentHash& hash, Location place, std::uint64_t sequence,
                                  ReadFault& fault) {
  const FileDescriptor file(::open(segments_.path(sequence).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  SegmentHeader segment;
  RecordHeader header;
  const std::uint64_t most = control_->limits().segment;
  if (file && read_exactly(file.get(), &segment, sizeof segment, 0) && segment.sequence == sequence &&
      read_exactly(file.get(), &header, sizeof header, place.offset) && header.length <= most) {
    Buffer payload(header.length);
    if (read_exactly(file.get(), payload.data(), header.length, place.offset + sizeof header) &&
        verify_record(header, payload.bytes(), segment.nonce)) {
      if (header.hash != hash) return std::nullopt;
      return std::move(payload).freeze();
    }
  }
  const SegmentSlot* slot = live_slot(place.segment);
  if (slot == nullptr || slot->sequence() != sequence) return std::nullopt;  // evicted while we read
  fault = ReadFault::kDamaged;
  index_.erase(hash, place);
  return std::nullopt;
}

bool Arena::holds(const ContentHash& hash, Location place) {
  SegmentSlot* slot = live_slot(place.segment);
  const auto mapping = slot != nullptr ? segments_.get(slot->sequence()) : nullptr;
  if (mapping == nullptr) return false;
  const std::uint64_t published = slot->published.load(std::memory_order_acquire);
  return survives_bus_error([&] {
    const auto header = mapping->header_at(place.offset, published);
    return header && header->hash == hash;
  });
}

}  // namespace alnair
