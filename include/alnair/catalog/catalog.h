// Durable records: datasets, their manifests, and the content hashes of chunks by where they come from.
// Implementations: SQLite (open_sqlite_catalog); later MongoDB. One contract suite holds for all.
//
// The catalog only saves work: losing it costs a listing and, for chunks whose hash is forgotten, a fetch.
//
// Thread safety: all methods may be called from any thread at once, and from many processes at once. After fork(), a
// child opens its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/core/hash.h"

namespace alnair {

// One registered version of a dataset. `dataset` names the datasource: source identity and the key entries.
struct ManifestRecord {
  std::string dataset;
  std::string version;  // hex content hash of the manifest's bytes
  std::int64_t registered_ms = 0;
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;
};

struct HashRecord {
  ChunkId id;
  ContentHash hash;
};

class Catalog {
 public:
  virtual ~Catalog() = default;

  // Stores the manifest's blob (immutable, named by `record.version`) and makes it the dataset's newest version.
  // Atomic: a reader sees all of it or nothing. Throws CacheError.
  virtual void put_manifest(const ManifestRecord& record, std::span<const std::byte> blob) = 0;

  // The newest version, or the one of that hash. nullopt: unknown. Throws CacheError.
  virtual std::optional<ManifestRecord> newest_manifest(std::string_view dataset) = 0;
  virtual std::optional<std::vector<std::byte>> manifest_blob(std::string_view version) = 0;
  virtual std::vector<ManifestRecord> manifests() = 0;

  // `hashes[i]` is set where the content hash of `ids[i]` is known, and left alone elsewhere. One batch is one query.
  virtual void find_hashes(std::span<const ChunkId> ids, std::span<std::optional<ContentHash>> hashes) = 0;

  // Queues the records and returns at once; they are written in batches, in the background, by flush() at the latest.
  // The queue is bounded: when it is full the oldest wait is on the caller. An id recorded again takes the new hash.
  virtual void record_hashes(std::span<const HashRecord> records) = 0;
  virtual void flush() = 0;
};

// `directory` is made if missing (mode 0700). A damaged or newer file is set aside with a warning that names it, and a
// new one begun. Throws CacheError (no directory can be made, not ours, read-only).
std::unique_ptr<Catalog> open_sqlite_catalog(const std::string& directory);

}  // namespace alnair
