#include "cache/tiered/tiered_cache.h"

#include <utility>

#include "cache/tiered/core.h"

namespace alnair {

TieredCache::TieredCache(Options options) : core_(std::make_shared<Core>(std::move(options))) {}
TieredCache::~TieredCache() { core_->stop(); }

void TieredCache::find_in_memory(std::span<const ContentHash> hashes, const Tier::Found& found) {
  if (core_->options().memory != nullptr) return core_->options().memory->get(hashes, found);
  for (std::size_t i = 0; i < hashes.size(); ++i) found(i, std::nullopt);
}

bool TieredCache::in_memory(const ContentHash& hash) {
  bool present = false;
  if (core_->options().memory != nullptr) core_->options().memory->contains({&hash, 1}, {&present, 1});
  return present;
}

void TieredCache::fetch(std::shared_ptr<ChunkOrigin> origin, std::span<const ChunkRead> chunks, Done done,
                        DatasetTag ahead) {
  core_->fetch(std::move(origin), chunks, std::move(done), ahead);
}

void TieredCache::consume(std::span<const ContentHash> hashes) { core_->consume(hashes); }

bool TieredCache::fill_is_behind() const { return core_->filler().behind(); }
void TieredCache::flush() { core_->flush(); }
Tier* TieredCache::memory() const { return core_->options().memory.get(); }
std::span<const std::shared_ptr<Tier>> TieredCache::lower() const { return core_->options().lower; }

}  // namespace alnair
