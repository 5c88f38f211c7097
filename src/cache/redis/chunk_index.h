// The shared index: from where a chunk comes from (its id) to its content hash, for all nodes.
//
// Ids are spread over 8192 hashes, small enough for Redis to keep them packed: a field is 6 bytes of the id, a value the content
// hash and the XXH3-64 of id and hash. A damaged or misplaced entry is thus a miss. About 60 bytes a chunk in Redis between
// 100,000 and 4 million chunks.
//
// Thread-safe; waits for nothing. What cannot be asked is unknown, what cannot be written is forgotten.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "alnair/catalog/catalog.h"
#include "cache/redis/redis_keys.h"
#include "redis/client.h"

namespace alnair {

class ChunkIndex {
 public:
  ChunkIndex(std::shared_ptr<redis::Client> client, RedisKeys keys) : client_(std::move(client)), keys_(std::move(keys)) {}

  // `found` once, with one element for each id, from any thread.
  using Found = std::function<void(std::vector<std::optional<ContentHash>>)>;
  void find(std::span<const ChunkId> ids, Found found) const;

  // `done` once: the entries are written, or never will be.
  void record(std::span<const HashRecord> records, std::function<void()> done) const;

 private:
  const std::shared_ptr<redis::Client> client_;
  const RedisKeys keys_;
};

}  // namespace alnair
