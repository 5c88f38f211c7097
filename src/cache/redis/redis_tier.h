// The Redis tier: chunks in a Redis Cluster that all nodes share, one key a chunk.
//
// A value is a header of 16 bytes, then the chunk:
//
//   magic "ALNC" (4)   format, u32: 2   length of the chunk, u32   seconds since 1970 by its writer's clock, u32    (little-endian)
//
// Every chunk that comes back is checked against its hash; one that does not match is counted, deleted, and a miss. Nothing here
// waits longer than the client's deadline, and with servers that are gone nothing waits at all (redis/client.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "alnair/cache/tier.h"
#include "cache/redis/redis_keys.h"
#include "redis/client.h"

namespace alnair {

class RedisTier : public Tier {
 public:
  static constexpr std::uint64_t kHeaderBytes = 16;

  struct Header {
    std::uint64_t length = 0;     // of the chunk
    std::int64_t written_s = 0;   // since 1970, by its writer's clock
  };
  // What a value begins with; nullopt: none that this library wrote.
  static std::optional<Header> parse_header(std::string_view value);

  RedisTier(std::shared_ptr<redis::Client> client, RedisKeys keys);
  ~RedisTier() override;

  std::string_view name() const override { return "redis"; }
  void get(std::span<const ContentHash> hashes, Found found) override;
  // One round trip for each server. Waits for it.
  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override;
  // Waits until the servers have the bytes. After a refusal for lack of room they are not asked for a moment.
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override;
  void erase(const ContentHash& hash) override;
  // Of the servers, whoever fills them. Waits.
  TierUsage usage() const override;

  // put() that does not wait: `stored` runs exactly once for each request, from any thread. What is new gets this expiry (ms since
  // 1970); 0: none.
  using Stored = std::function<void(std::size_t, PutOutcome)>;
  void store(std::vector<PutRequest> requests, Stored stored, std::int64_t expires_at_ms = 0);

 private:
  struct State;
  const std::shared_ptr<State> state_;  // shared with what is in flight
};

// Whether the servers' namespace is of the format that this library writes; an empty one is marked as such. Waits. Throws
// ConfigError if it is of another format. What cannot be found out passes: every value says its format itself.
void check_redis_namespace(redis::Client& client, const RedisKeys& keys);

}  // namespace alnair
