// Where a fetched chunk goes first, Redis or the shared directory: so that what Redis may evict at any moment is in the directory
// already. It follows from the servers' `maxmemory-policy`. Pure.
//
//   policy                        with a shared directory                        without one
//   noeviction, no maxmemory      both, side by side                             Redis
//   volatile-ttl                  Redis, without an expiry: nothing evicts it    Redis, with an expiry: the source has it
//                                 until the flusher has made it durable
//   volatile-lru, -lfu, -random   the directory, then Redis with an expiry       Redis, with an expiry
//   allkeys-*, mixed, unknown     the directory, then Redis                      Redis
//
// Under noeviction the fill stops at a mark, which leaves room for index and leases.
#pragma once

#include "redis/client.h"

namespace alnair {

struct FillRule {
  enum class Order {
    kSideBySide,
    kRedisFirst,      // the directory gets what Redis refuses
    kDirectoryFirst,  // Redis gets what is durable
  };
  Order order = Order::kSideBySide;
  bool expiring = false;  // keys get their expiry as they are written
  bool full = false;      // Redis gets no more chunks
};

constexpr double kFullMark = 0.95;  // of maxmemory

// Whether the servers evict only keys with an expiry, nearest first: the flusher's guarantee.
inline bool evicts_by_expiry(const redis::ServerFacts& facts) {
  return facts.maxmemory_policy == "volatile-ttl" && facts.maxmemory > 0;
}

// Whether only keys with an expiry may be evicted, if any.
inline bool spares_persistent_keys(const redis::ServerFacts& facts) {
  return facts.maxmemory_policy == "noeviction" || facts.maxmemory_policy.starts_with("volatile-");
}

// `directory`: this process has one. `relied_on`: some process's directory vouches for the namespace, so that an expiry says that a
// chunk is durable there.
inline FillRule fill_rule(const redis::ServerFacts& facts, bool directory, bool relied_on) {
  const bool known = !facts.maxmemory_policy.empty();
  const bool evicts = !known || (facts.maxmemory > 0 && facts.maxmemory_policy != "noeviction");
  FillRule rule;
  if (!evicts) {
    rule.full = facts.maxmemory > 0 &&
                static_cast<double>(facts.used_memory) >= kFullMark * static_cast<double>(facts.maxmemory);
    return rule;
  }
  const bool guaranteed = evicts_by_expiry(facts);
  rule.expiring = facts.maxmemory_policy.starts_with("volatile-") && !(guaranteed && (directory || relied_on));
  if (directory) rule.order = guaranteed ? FillRule::Order::kRedisFirst : FillRule::Order::kDirectoryFirst;
  return rule;
}

}  // namespace alnair
