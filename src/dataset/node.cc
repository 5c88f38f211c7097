#include "dataset/node.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <vector>

#include "alnair/core/error.h"
#include "cache/directory/directory_tier.h"
#include "core/io_pool.h"
#include "cache/directory/spill_tier.h"
#include "cache/lock_file.h"
#include "cache/memory/node_memory.h"
#include "cache/private_directory.h"
#include "cache/redis/cluster_over_redis.h"
#include "cache/redis/redis_rights.h"
#include "cache/redis/redis_tier.h"
#include "core/fork.h"
#include "core/log.h"

namespace alnair {
namespace {

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string default_cache_directory() {
  if (auto set = from_environment("ALNAIR_CACHE_DIR"); !set.empty()) return set;
  if (auto set = from_environment("XDG_CACHE_HOME"); !set.empty()) return set + "/alnair";
  std::string home = from_environment("HOME");
  if (home.empty())
    if (const passwd* user = getpwuid(geteuid())) home = user->pw_dir;
  if (home.empty()) throw ConfigError("there is no home directory to keep a cache in; set cache_dir or ALNAIR_CACHE_DIR");
  return home + "/.cache/alnair";
}

// Whether its file system does. One that hangs costs this wait, and is then left alone (decision 053).
bool answers(const std::string& directory) {
  constexpr auto kPatience = std::chrono::seconds(5);
  IoPool looking({1, kPatience, nullptr});
  return run_and_wait(looking, [directory] {
    struct statvfs ignored {};
    ::statvfs(directory.c_str(), &ignored);  // NFS answers a stat from memory, and this by asking the server
  });
}

std::string place_of(const std::string& directory) {
  struct stat status {};
  return stat(directory.c_str(), &status) == 0 ? fmt::format("{:x}-{:x}", status.st_dev, status.st_ino) : "";
}

// Runs `open`; what it throws becomes a warning: the cache may only make a job faster.
template <typename Open>
void or_warn(const char* what, const Open& open) {
  try {
    open();
  } catch (const CacheError& error) {
    log(LogLevel::kWarning, "going on without {}: {}", what, error.what());
  }
}

// Of which a server itself takes a few.
constexpr std::uint64_t kTinyRedis = 16u << 20;
double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1u << 20); }

constexpr std::uint64_t kPublishBytes = 256ull << 20;  // on their way to Redis at most

// The servers answer within this time, or the job starts without asking them what they are.
constexpr auto kRedisPatience = std::chrono::seconds(5);

// One client for each URL, as long as the process lives: datasets come and go, connections stay.
struct RedisClients {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<redis::Client>> clients;
};

std::shared_ptr<redis::Client> redis_client(const std::string& url) {
  static auto* fork_local = new ForkLocal<RedisClients>([] { return std::make_shared<RedisClients>(); });
  const auto all = fork_local->get();
  const std::lock_guard lock(all->mutex);
  auto& client = all->clients[url];
  if (client == nullptr) client = redis::open(url);
  return client;
}

// Throws for what no waiting mends; servers that do not answer now may do so later.
void check_redis(redis::Client& client, const RedisKeys& keys, bool flushes) {
  try {
    const redis::ServerFacts facts = client.check({.deadline = kRedisPatience});
    if (facts.mode != redis::Mode::kProxy && facts.version != redis::Version{} && facts.maxmemory == 0)
      log(LogLevel::kWarning,
          "redis: maxmemory is not set: the servers will grow until the machine has no memory left; set it, and a "
          "maxmemory-policy (docs/cluster.md)");
    else if (facts.maxmemory > 0 && facts.maxmemory < static_cast<std::uint64_t>(facts.masters) * kTinyRedis)
      log(LogLevel::kWarning,
          "redis: maxmemory is {:.1f} MiB on {} server(s), of which {:.1f} MiB are in use: hardly any chunk fits; set it to what "
          "their machines can spare (docs/cluster.md)",
          mebibytes(facts.maxmemory), facts.masters, mebibytes(facts.used_memory));
    check_redis_namespace(client, keys);
    if (facts.mode != redis::Mode::kProxy) check_redis_rights(client, keys, flushes);
  } catch (const CacheError& error) {
    log(LogLevel::kWarning, "going on, and trying Redis again later: {}", error.what());
  } catch (const TimeoutError& error) {
    log(LogLevel::kWarning, "going on, and trying Redis again later: {}", error.what());
  }
}

// `client` is null where no Redis is named.
void open_shared_tiers(const std::shared_ptr<redis::Client>& client, SpillOptions spill, const Flusher::Options& flusher,
                       Node& node) {
  const RedisKeys keys(spill.key_namespace, spill.domain);
  std::shared_ptr<RedisTier> tier;
  if (client != nullptr) {
    check_redis(*client, keys, !spill.directories.empty() && client->options().flusher);
    tier = std::make_shared<RedisTier>(client, keys);
    node.redis = tier;
    spill.before_drop = [client, keys](std::span<const ContentHash> hashes) {
      return Flusher::keep_in_redis(*client, keys, hashes);
    };
  }
  std::shared_ptr<DurableTier> directory;
  if (!spill.directories.empty()) or_warn("the shared directory", [&] { directory = open_spill(spill); });
  node.spill = directory;
  if (tier == nullptr) return;
  node.cluster = std::make_shared<ClusterOverRedis>(client, keys, tier, kPublishBytes, Leases::Timing(), directory);
  if (directory == nullptr) return;
  if (flusher.policy != nullptr) node.uses = std::make_shared<UseTeller>(client, keys, flusher.policy);
  if (client->options().flusher)
    node.flusher = std::make_unique<Flusher>(client, keys, tier, directory, node.cluster, flusher);
}

void open_shared_tiers(const CacheOptions& options, Node& node) {
  SpillOptions spill{.directories = options.spill,
                     .key_namespace = options.spill_namespace,
                     .domain = options.spill_domain,
                     .mode = options.spill_mode,
                     .node_directory = options.memory_dir,
                     .limit_bytes = options.spill_limit,
                     .eviction = options.eviction,
                     .durability = std::max<std::chrono::seconds>(options.spill_durability, std::chrono::seconds(1))};
  std::shared_ptr<redis::Client> client;
  if (!options.redis.empty()) {
    client = redis_client(options.redis);
    spill.key_namespace = client->options().key_namespace;
    spill.domain = client->options().domain;
  }
  Flusher::Options flusher{.frequency = options.flush_frequency, .pace = {}, .policy = flush_policy(options.flush_policy)};
  if (options.flush_amount > 0) flusher.pace.most_bytes = options.flush_amount;
  open_shared_tiers(client, std::move(spill), flusher, node);
}

// Every call for a lock walks the list of its file's locks. Those of chunks on their way come and go by the hundreds, and processes that
// map node memory hold thousands: so the former have files of their own.
std::vector<LockFile*> flight_locks(const std::string& directory) {
  std::vector<LockFile*> files;
  for (int i = 0; i < 8; ++i) files.push_back(&LockFile::open(directory + "/flights-" + std::to_string(i)));
  return files;
}

void open_cache(Node& node, bool keep) {
  TieredCache::Options cache;
  cache.memory = node.memory;
  if (node.disk != nullptr) cache.lower.push_back(node.disk);
  if (node.redis != nullptr) cache.shared.push_back(node.redis);
  if (node.spill != nullptr) cache.shared.push_back(node.spill);
  cache.cluster = node.cluster;
  if (!node.share_directory.empty())
    or_warn("one fetch for all processes of the node", [&] { cache.locks = flight_locks(node.share_directory); });
  if (node.seat != nullptr) cache.is_alone = [seat = node.seat] { return seat->is_alone(); };
  cache.keep = keep;
  node.cache = std::make_unique<TieredCache>(std::move(cache));
}

std::shared_ptr<Node> make_node(const CacheOptions& options, bool has_home) {
  auto node = std::make_shared<Node>();
  or_warn("node memory", [&] {
    const auto memory = NodeMemory::open(
        {.directory = options.memory_dir, .limit = options.memory_limit, .policy = options.eviction});
    node->locks = memory->locks();
    node->memory = memory;
    node->memory_place = place_of(options.memory_dir);
    node->share_directory = open_private_directory(options.memory_dir + "/shared");
    node->seat = std::make_shared<LookAheadSeat>(LockFile::open(node->share_directory + "/ahead.lock"));
  });
  if (!has_home)
    log(LogLevel::kWarning, "going on without a catalog and the directory tier: the file system of {} does not answer",
        options.cache_dir);
  if (has_home) or_warn("a catalog", [&] { node->catalog = open_sqlite_catalog(options.cache_dir); });
  if (has_home && options.use_cache) {
    or_warn("the directory tier", [&] {
      const std::string home = open_private_directory(options.cache_dir);
      node->disk_place = place_of(home);
      node->disk = std::make_shared<DirectoryTier>(DirectoryOptions{.directory = home + "/chunks",
                                                                    .node_directory = options.memory_dir,
                                                                    .limit_bytes = options.disk_limit,
                                                                    .eviction = options.eviction});
    });
  }
  if (options.use_cache) open_shared_tiers(options, *node);
  open_cache(*node, options.use_cache && !options.single_pass);
  return node;
}

struct Registry {
  using Key = std::tuple<std::string, std::string, bool, bool, std::string, std::vector<std::string>, std::string>;
  std::mutex mutex;
  std::map<Key, std::weak_ptr<Node>> nodes;
};

// Never destroyed: datasets may be closed by other static destructors.
Registry& registry() {
  static auto* fork_local = new ForkLocal<Registry>([] { return std::make_shared<Registry>(); });
  return *fork_local->get();
}

}  // namespace

CacheOptions with_default_directories(CacheOptions options) {
  if (options.cache_dir.empty()) options.cache_dir = default_cache_directory();
  if (options.memory_dir.empty()) options.memory_dir = from_environment("ALNAIR_MEMORY_DIR");
  if (options.memory_dir.empty()) options.memory_dir = "/dev/shm/alnair-" + std::to_string(geteuid());
  return options;
}

std::shared_ptr<Node> open_node(const CacheOptions& options) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  auto& slot = all.nodes[{options.cache_dir, options.memory_dir, options.use_cache, options.single_pass, options.redis, options.spill,
                          options.spill_namespace + "/" + options.spill_domain}];
  if (auto node = slot.lock()) return node;
  const bool has_home = answers(options.cache_dir);
  if (has_home) refuse_foreign_directory(options.cache_dir);
  refuse_foreign_directory(options.memory_dir);
  auto node = make_node(options, has_home);
  slot = node;
  return node;
}

std::vector<NodeTier> usage_of_open_nodes() {
  std::vector<std::shared_ptr<Node>> open;
  {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    for (const auto& [options, slot] : all.nodes)
      if (auto node = slot.lock()) open.push_back(std::move(node));
  }
  std::vector<NodeTier> tiers;
  std::set<std::string> seen;
  const auto add = [&](const char* name, const std::string& place, const Tier* tier) {
    if (tier == nullptr || !seen.insert(name + place).second) return;
    const TierUsage usage = tier->usage();
    tiers.push_back({name, place, usage.used_bytes, usage.limit_bytes});
  };
  for (const auto& node : open) {
    add("memory", node->memory_place, node->memory.get());
    add("disk", node->disk_place, node->disk.get());
  }
  return tiers;
}

std::shared_ptr<Node> open_sharing_node(std::shared_ptr<redis::Client> client, SpillOptions spill, const Flusher::Options& flusher,
                                        std::shared_ptr<Catalog> catalog) {
  auto node = std::make_shared<Node>();
  node->catalog = std::move(catalog);
  open_shared_tiers(client, std::move(spill), flusher, *node);
  if (node->flusher != nullptr) node->flusher->start();
  open_cache(*node, true);
  return node;
}

}  // namespace alnair
