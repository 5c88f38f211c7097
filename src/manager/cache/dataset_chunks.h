// A version of a dataset in its domain's shared tiers: where each chunk is, and bringing chunks there.
//
// Thread safety: all methods may be called from any thread. They wait for Redis, directories and the object source, never
// without end. As long as one lives, the directory keeps the dataset before others.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "alnair/dataset/manifest.h"
#include "alnair/source/object_source.h"
#include "dataset/reader.h"

namespace alnair::manager {

// A chunk of an object of the manifest.
struct ChunkOf {
  std::uint64_t object = 0;  // its index
  std::uint64_t chunk = 0;
};

enum class Place { kNowhere, kRedis, kDirectory };

struct FoundChunk {
  Place place = Place::kNowhere;
  std::optional<ContentHash> hash;  // known even where the chunk has left the tiers
  bool told = true;                 // false: it is in the directory, and no index in Redis leads other nodes to it (any more)

  bool cached() const { return place != Place::kNowhere && told; }
};

class DatasetChunks {
 public:
  // `name`: the catalog's for the dataset (dataset/registration.h). `hashes`: of another one of the version; null: there is none.
  DatasetChunks(std::shared_ptr<Node> node, std::shared_ptr<ObjectSource> source,
                std::shared_ptr<const Manifest> manifest, std::uint64_t chunk_size, const std::string& name,
                std::shared_ptr<SharedHashes> hashes);

  const Manifest& manifest() const { return *manifest_; }
  Node& node() const { return *node_; }
  const std::shared_ptr<SharedHashes>& hashes() const { return hashes_; }
  // Of an object; none of an empty one.
  std::uint64_t chunks_of(std::uint64_t object) const;
  std::uint64_t bytes_of(const ChunkOf& chunk) const;

  // One outcome for each chunk. No bytes are read.
  std::vector<FoundChunk> find(std::span<const ChunkOf> chunks);

  // Brings the chunks into the tiers, under the cluster's leases, and waits until the tiers have them or have refused. One
  // outcome for each: null, or why the source would not give it. Throws only what `interrupt` throws.
  std::vector<std::exception_ptr> bring(std::span<const ChunkOf> chunks, const Interrupt& interrupt);

  // Reads what find() has found; how many chunks were not what their names say. Those are gone now.
  std::uint64_t damaged(std::span<const FoundChunk> places);

  void evict(const ContentHash& hash);

  // Asks for the hashes of all chunks: what is known is named in the directory. Throws only what `interrupt` throws.
  void learn_hashes(const Interrupt& interrupt);

  void keep_hashes();  // waits until the catalog has those that bring() has learned

  // The content hashes from that chunk on, counted through the manifest: 32 bytes each, zeros where none is known.
  std::string known_hashes(std::uint64_t first, std::uint64_t most);

 private:
  std::vector<ChunkId> ids_of(std::span<const ChunkOf> chunks) const;
  std::vector<std::optional<ContentHash>> hashes_of(std::span<const ChunkOf> chunks);

  const std::shared_ptr<Node> node_;
  const std::shared_ptr<const Manifest> manifest_;
  const std::shared_ptr<const Chunking> chunking_;
  const std::shared_ptr<const ChunkNamer> namer_;
  const std::shared_ptr<SharedHashes> hashes_;
  Reader reader_;
};

// What such an outcome says; it is not null.
std::string message_of(const std::exception_ptr& error);

}  // namespace alnair::manager
