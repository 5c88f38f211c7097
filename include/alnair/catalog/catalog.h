// Durable records: datasets, their manifests, and the content hashes of chunks by where they come from.
// Implementations: SQLite (open_sqlite_catalog); later MongoDB. One contract suite holds for all.
//
// The catalog only saves work: losing it costs a listing and, for chunks whose hash is forgotten, a fetch. So
// it is bounded too: old versions of a dataset, and hashes beyond a limit, may be forgotten.
//
// Thread safety: all methods may be called from any thread at once, and from many processes at once. A forked
// child may use the catalog that it inherited: it makes connections, threads and a queue of its own.
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

  // Stores the manifest's blob (immutable, named by `record.version`) and makes it the dataset's newest
  // version. Atomic: a reader sees all of it or nothing. Blocks. Throws CacheError.
  virtual void put_manifest(const ManifestRecord& record, std::span<const std::byte> blob) = 0;

  // The version that was put last. nullopt: unknown. Blocks. Throws CacheError.
  virtual std::optional<ManifestRecord> newest_manifest(std::string_view dataset) = 0;
  // The blob as it was put. nullopt: unknown, forgotten, or damaged and removed. Blocks. Throws CacheError.
  virtual std::optional<std::vector<std::byte>> manifest_blob(std::string_view version) = 0;
  // All that are known, in the order of their put_manifest. Blocks. Throws CacheError.
  virtual std::vector<ManifestRecord> manifests() = 0;

  // `hashes[i]` is set where the content hash of `ids[i]` is known, and left alone elsewhere. One batch is
  // one query. Never waits long for other processes and never throws: what cannot be found out now is
  // unknown.
  virtual void find_hashes(std::span<const ChunkId> ids, std::span<std::optional<ContentHash>> hashes) = 0;

  // Queues the records and returns at once; they are written in batches, in the background, within seconds,
  // by flush() or the destructor at the latest. The queue is bounded: when it is full the caller waits for a
  // moment, then records are lost. An id recorded again takes the new hash. Never throws.
  virtual void record_hashes(std::span<const HashRecord> records) = 0;
  // Blocks until what this process recorded is written, or lost. Never throws.
  virtual void flush() = 0;
};

// How many manifests a catalog keeps: the newest ones of each dataset, and of all.
struct CatalogLimits {
  std::int64_t versions = 8;
  std::int64_t manifests = 256;
};

// `directory` is made if missing (mode 0700). A damaged or newer file is set aside with a warning that names
// it, and a new one begun. On a network file system the catalog is this host's own, in a folder of its name.
// Touches only the directory: the file is opened at first use. A network file system that hangs later costs one wait of 10 s.
// Throws CacheError (no directory can be made, not ours, read-only).
std::unique_ptr<Catalog> open_sqlite_catalog(const std::string& directory, CatalogLimits limits = {});

}  // namespace alnair
