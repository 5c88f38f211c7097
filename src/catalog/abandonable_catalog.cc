#include "catalog/abandonable_catalog.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>
#include <vector>

#include "alnair/core/error.h"
#include "core/log.h"
#include "core/metrics.h"

namespace alnair {
namespace {

constexpr std::size_t kThreads = 2;  // a long write does not keep lookups waiting

std::shared_ptr<IoPool> make_pool(const std::string& directory, std::chrono::milliseconds stall_limit) {
  const auto once = std::make_shared<Once>();
  return std::make_shared<IoPool>(IoPool::Options{kThreads, stall_limit, [=] {
    metrics().add(Counter::kCatalogFaults);
    if (once->first())
      log(LogLevel::kWarning,
          "the catalog in {} does not answer: a call to its file system has not returned for {} ms; what it does not "
          "tell is listed and fetched again",
          directory, stall_limit.count());
  }});
}

// Kept in sight of leak checkers, for ever.
void leave_behind(std::shared_ptr<Catalog> catalog) {
  if (catalog == nullptr) return;
  struct Left {
    std::mutex mutex;
    std::vector<std::shared_ptr<Catalog>> catalogs;
  };
  static auto* fork_local = new ForkLocal<Left>([] { return std::make_shared<Left>(); });
  const auto left = fork_local->get();
  const std::lock_guard lock(left->mutex);
  left->catalogs.push_back(std::move(catalog));
}

}  // namespace

AbandonableCatalog::AbandonableCatalog(std::unique_ptr<Catalog> catalog, std::string directory,
                                       std::chrono::milliseconds stall_limit)
    : catalog_(std::move(catalog)),
      directory_(std::move(directory)),
      pool_([directory = directory_, stall_limit] { return make_pool(directory, stall_limit); }) {}

AbandonableCatalog::~AbandonableCatalog() {
  // Its end writes what is queued, so it is a call that may hang; a task that never runs must not end it on this thread.
  struct Last {
    std::mutex mutex;
    std::shared_ptr<Catalog> catalog;
    std::shared_ptr<Catalog> take() {
      const std::lock_guard lock(mutex);
      return std::exchange(catalog, nullptr);
    }
  };
  const auto last = std::make_shared<Last>();
  last->catalog = std::exchange(catalog_, nullptr);
  if (!run_and_wait(*pool_.get(), [last] { last->take().reset(); })) leave_behind(last->take());
}

template <typename T>
T AbandonableCatalog::ask(std::function<T(Catalog&)> work) {
  auto answer = answer_of<T>(*pool_.get(), [catalog = catalog_, work = std::move(work)] { return work(*catalog); });
  if (!answer) throw CacheError(fmt::format("The catalog in {} does not answer: its file system hangs.", directory_));
  return *std::move(answer);
}

void AbandonableCatalog::put_manifest(const ManifestRecord& record, std::span<const std::byte> blob) {
  ask<bool>([record, bytes = std::vector(blob.begin(), blob.end())](Catalog& catalog) {
    catalog.put_manifest(record, bytes);
    return true;
  });
}

std::optional<ManifestRecord> AbandonableCatalog::newest_manifest(std::string_view dataset) {
  return ask<std::optional<ManifestRecord>>(
      [name = std::string(dataset)](Catalog& catalog) { return catalog.newest_manifest(name); });
}

std::optional<std::vector<std::byte>> AbandonableCatalog::manifest_blob(std::string_view version) {
  return ask<std::optional<std::vector<std::byte>>>(
      [name = std::string(version)](Catalog& catalog) { return catalog.manifest_blob(name); });
}

std::vector<ManifestRecord> AbandonableCatalog::manifests() {
  return ask<std::vector<ManifestRecord>>([](Catalog& catalog) { return catalog.manifests(); });
}

void AbandonableCatalog::find_hashes(std::span<const ChunkId> ids, std::span<std::optional<ContentHash>> hashes) {
  if (ids.empty()) return;
  using Found = std::vector<std::optional<ContentHash>>;
  const auto found = answer_of<Found>(*pool_.get(), [catalog = catalog_, wanted = std::vector(ids.begin(), ids.end())] {
    Found all(wanted.size());
    catalog->find_hashes(wanted, all);
    return all;
  });
  if (!found) return;
  for (std::size_t i = 0; i < hashes.size(); ++i)
    if ((*found)[i]) hashes[i] = (*found)[i];
}

void AbandonableCatalog::record_hashes(std::span<const HashRecord> records) {
  // Only queues; but behind a file system that hangs each call would wait for room.
  if (!pool_.get()->stalled()) catalog_->record_hashes(records);
}

void AbandonableCatalog::flush() {
  run_and_wait(*pool_.get(), [catalog = catalog_] { catalog->flush(); });
}

}  // namespace alnair
