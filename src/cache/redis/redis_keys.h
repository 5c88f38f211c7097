// Names in Redis. All begin with "<namespace>:<domain>:", have no braces, and so spread over all hash slots. Pure.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "alnair/core/hash.h"

namespace alnair {

class RedisKeys {
 public:
  static constexpr std::uint32_t kIndexBuckets = 8192;
  static constexpr std::uint32_t kLeaseBuckets = 256;

  RedisKeys(const std::string& key_namespace, const std::string& domain) : prefix_(key_namespace + ":" + domain + ":") {}

  const std::string& prefix() const { return prefix_; }
  std::string format() const { return prefix_ + "format"; }
  std::string directory() const { return prefix_ + "directory"; }  // the identity of the one that vouches for chunks
  std::string chunk(const ContentHash& hash) const { return prefix_ + hash.hex(); }
  // What matches chunks; of other keys, only some whose names are as long. `hash_of` tells.
  std::string chunk_pattern() const { return prefix_ + std::string(64, '?'); }
  std::optional<ContentHash> hash_of(std::string_view key) const {
    return key.starts_with(prefix_) ? ContentHash::from_hex(key.substr(prefix_.size())) : std::nullopt;
  }
  std::string index_bucket(const ChunkId& id) const {
    return fmt::format("{}i:{:04x}", prefix_, first64(id) % kIndexBuckets);
  }
  std::string lease_bucket(std::uint32_t bucket) const { return fmt::format("{}l:{:02x}", prefix_, bucket); }
  std::string lease_bucket(const ChunkId& id) const {
    return lease_bucket(static_cast<std::uint32_t>(first64(id) % kLeaseBuckets));
  }

 private:
  std::string prefix_;
};

}  // namespace alnair
