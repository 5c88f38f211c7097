// The shared tiers as the manager fills and reads them, domain by domain. Each domain's tiers are opened at first use and kept:
// so its flusher runs here, and not in trainers; and so does what collects chunks that nobody has named for a day.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dataset/node.h"
#include "redis/client.h"

namespace alnair::manager {

class Domains {
 public:
  struct Options {
    std::string redis_url;  // as the manager reaches the servers; empty: there is no Redis
    std::string directory;  // that nodes share; empty: none
    std::uint32_t directory_mode = 0700;
    std::uint64_t directory_limit = 0;  // bytes of each domain; 0: a tenth of the disk stays free
    Flusher::Options flusher = {};
  };
  // Waits for Redis, for a few seconds. Throws ConfigError or AccessError for what no waiting mends.
  Domains(Options options, std::shared_ptr<Catalog> catalog);

  bool fillable() const { return redis_ != nullptr || !options_.directory.empty(); }  // whether there is any shared tier
  const std::shared_ptr<redis::Client>& redis() const { return redis_; }              // null: none

  // A server of Redis: a master, as replicas hold no more.
  struct RedisServer {
    std::string name;     // "10.0.0.1:6379"
    std::string failure;  // why it does not answer, in a sentence; empty: it does
    TierUsage usage = {};
  };

  // How full each shared tier is, of all domains that have been opened; none for a tier that there is not, or that does not
  // answer within a second.
  struct Usage {
    std::optional<TierUsage> redis, directory;
    std::vector<RedisServer> redis_servers;  // those that are known; through a proxy none are
    std::uint64_t unflushed_bytes = 0;  // that only Redis had when the flushers last looked
    double unflushed_s = 0;             // for how long there has been something that only Redis had
  };
  Usage usage();

  // Waits for Redis at a domain's first use. Throws ConfigError, AccessError.
  std::shared_ptr<Node> node(const std::string& domain);

  void tend();  // DurableTier::tend() of those that have been opened

 private:
  void look_at_redis(Usage& usage) const;

  const Options options_;
  const std::shared_ptr<Catalog> catalog_;
  const std::shared_ptr<redis::Client> redis_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Node>> nodes_;
  std::map<std::string, std::chrono::steady_clock::time_point> unflushed_since_;  // by domain
};

// A domain as it is in the names of keys and directories: itself where it may be, else named by its hash. Different domains
// never become one. Pure.
std::string name_in_tiers(const std::string& domain);

}  // namespace alnair::manager
