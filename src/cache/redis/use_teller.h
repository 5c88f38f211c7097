// Tells Redis what the jobs of this process have read: what may be evicted gets another place in the order of eviction (flush_policy.h),
// whichever process on whichever node runs the flusher. And it tells this process's flusher what will be read next.
//
// It costs a PEXPIREAT a chunk, pipelined, while Redis has anything that may be evicted, and nothing otherwise. From Redis 7 on: XX
// leaves alone what must not be evicted. A hint, no more: what cannot be told is forgotten.
//
// Thread-safe; waits for nothing, has no thread.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cache/redis/flush_policy.h"
#include "cache/redis/redis_keys.h"
#include "redis/client.h"

namespace alnair {

class UseTeller {
 public:
  UseTeller(std::shared_ptr<redis::Client> client, RedisKeys keys, std::shared_ptr<FlushPolicy> policy)
      : policy_(std::move(policy)), state_(std::make_shared<State>(std::move(client), std::move(keys))) {}

  void used(std::span<const ContentHash> hashes);
  void expect(std::span<const ContentHash> order, bool again) { policy_->expect(order, again); }

  const std::shared_ptr<FlushPolicy>& policy() const { return policy_; }

 private:
  using Clock = std::chrono::steady_clock;
  // Shared with what is on its way.
  struct State {
    State(std::shared_ptr<redis::Client> from, RedisKeys named) : client(std::move(from)), keys(std::move(named)) {}
    const std::shared_ptr<redis::Client> client;
    const RedisKeys keys;
    std::mutex mutex;                   // guards what follows
    bool worth = false, asking = false; // whether Redis may evict anything; and whether it is being asked
    bool denied = false;                // no right to, or no such command
    Clock::time_point asked{}, sent{};
    std::vector<ContentHash> waiting;
    std::size_t on_their_way = 0;
  };
  static void ask(const std::shared_ptr<State>& state);

  const std::shared_ptr<FlushPolicy> policy_;
  const std::shared_ptr<State> state_;
};

}  // namespace alnair
