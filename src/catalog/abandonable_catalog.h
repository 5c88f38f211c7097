// A catalog on a file system that may hang (a home directory on NFS whose server is gone).
//
// Every call that touches the files is made on a pool's thread (IoPool), which the caller gives up on: a hang costs one
// bounded wait, then hashes are unknown and all else throws at once, until the file system answers again.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "alnair/catalog/catalog.h"
#include "core/fork.h"
#include "core/io_pool.h"

namespace alnair {

constexpr std::chrono::milliseconds kCatalogStallLimit{10'000};  // a call to the file system that takes longer hangs

class AbandonableCatalog final : public Catalog {
 public:
  // `directory` is for messages.
  AbandonableCatalog(std::unique_ptr<Catalog> catalog, std::string directory,
                     std::chrono::milliseconds stall_limit = kCatalogStallLimit);
  ~AbandonableCatalog() override;  // leaves what hangs behind

  void put_manifest(const ManifestRecord& record, std::span<const std::byte> blob) override;
  std::optional<ManifestRecord> newest_manifest(std::string_view dataset) override;
  std::optional<std::vector<std::byte>> manifest_blob(std::string_view version) override;
  std::vector<ManifestRecord> manifests() override;
  void find_hashes(std::span<const ChunkId> ids, std::span<std::optional<ContentHash>> hashes) override;
  void record_hashes(std::span<const HashRecord> records) override;
  void flush() override;

 private:
  // What `work` returns or throws; CacheError if it hangs. `work` owns all that it touches.
  template <typename T>
  T ask(std::function<T(Catalog&)> work);

  std::shared_ptr<Catalog> catalog_;  // shared with calls that hang
  const std::string directory_;
  ForkLocal<IoPool> pool_;
};

}  // namespace alnair
