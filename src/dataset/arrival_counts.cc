#include "dataset/arrival_counts.h"

#include <atomic>

namespace alnair {
namespace {

constexpr char kFile[] = "arrivals";
constexpr std::uint64_t kCounters = 1 << 16;
constexpr std::uint64_t kBytes = kCounters * sizeof(std::uint16_t);

Mapping map_table(const std::string& directory) {
  Mapping mapping = map_shared_file(directory, kFile, Access::kReadWrite);
  if (mapping && mapping.bytes().size() == kBytes) return mapping;
  if (mapping) remove_shared_file(directory, kFile);
  if (auto draft = SharedFileDraft::begin(directory, kBytes)) {
    if (draft->publish(kFile)) return std::move(*draft).release();
    mapping = map_shared_file(directory, kFile, Access::kReadWrite);  // another process was first
    if (mapping && mapping.bytes().size() == kBytes) return mapping;
  }
  return map_private_memory(kBytes);
}

}  // namespace

ArrivalCounts::ArrivalCounts(const std::string& share_directory, std::uint64_t version)
    : version_(version), mapping_(map_table(share_directory)) {}

std::uint16_t* ArrivalCounts::counter(std::uint64_t ordinal) const {
  auto* counters = reinterpret_cast<std::uint16_t*>(const_cast<std::byte*>(mapping_.bytes().data()));
  return counters + (version_ + ordinal) % kCounters;
}

std::uint16_t ArrivalCounts::get(std::uint64_t ordinal) const {
  return mapping_ ? std::atomic_ref(*counter(ordinal)).load(std::memory_order_acquire) : 0;
}

void ArrivalCounts::add(std::uint64_t ordinal) {
  if (mapping_) std::atomic_ref(*counter(ordinal)).fetch_add(1, std::memory_order_release);
}

}  // namespace alnair
