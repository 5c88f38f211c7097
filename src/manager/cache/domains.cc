#include "manager/cache/domains.h"

#include <algorithm>
#include <string_view>

#include "alnair/core/error.h"
#include "core/log.h"
#include "manager/identity/crypto.h"
#include "redis/info.h"

namespace alnair::manager {
namespace {

constexpr std::chrono::seconds kRedisPatience{5};
constexpr std::chrono::seconds kLookPatience{1};

std::shared_ptr<redis::Client> connected(const std::string& url) {
  if (url.empty()) return nullptr;
  auto client = redis::open(redis::parse_url(url, "[redis] url"));
  try {
    client->check({.deadline = kRedisPatience});
  } catch (const CacheError& error) {
    log(LogLevel::kWarning, "Redis does not answer, and is tried again later: {}", error.what());
  } catch (const TimeoutError& error) {
    log(LogLevel::kWarning, "Redis does not answer, and is tried again later: {}", error.what());
  }
  return client;
}

}  // namespace

std::string name_in_tiers(const std::string& domain) {
  constexpr const char* kHashed = "h.";
  const bool fit = !domain.empty() && domain.size() <= 64 && domain.front() != '.' && !domain.starts_with(kHashed) &&
                   std::all_of(domain.begin(), domain.end(), [](unsigned char c) {
                     return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                            c == '_' || c == '.';
                   });
  return fit ? domain : kHashed + hash_token(domain).substr(0, 32);
}

Domains::Domains(Options options, std::shared_ptr<Catalog> catalog)
    : options_(std::move(options)), catalog_(std::move(catalog)), redis_(connected(options_.redis_url)) {}

void Domains::look_at_redis(Usage& usage) const {
  for (const redis::NodeResult& answer : redis_->call_on_masters({.args = {"INFO"}}, {.deadline = kLookPatience})) {
    const redis::Result& result = answer.result;
    if (result.failure == redis::Failure::kUnsupported) continue;  // a proxy
    const bool answers = result.ok() || result.failure == redis::Failure::kDenied;  // INFO may be
    RedisServer server{.name = answer.node, .failure = answers ? "" : result.message};
    if (server.name.empty()) server.name = redis_->options().seeds.front().text();
    if (result.ok()) {
      const std::string_view info = result.reply.text();
      server.usage = {.used_bytes = redis::number_of(redis::info_field(info, "used_memory")),
                      .limit_bytes = redis::number_of(redis::info_field(info, "maxmemory"))};
      if (!usage.redis) usage.redis.emplace();
      usage.redis->used_bytes += server.usage.used_bytes;
      usage.redis->limit_bytes += server.usage.limit_bytes;
    }
    usage.redis_servers.push_back(std::move(server));
  }
}

Domains::Usage Domains::usage() {
  Usage usage;
  if (redis_ != nullptr) look_at_redis(usage);
  if (options_.directory.empty()) return usage;
  usage.directory.emplace();
  const std::lock_guard lock(mutex_);
  for (const auto& [domain, node] : nodes_) {
    if (node == nullptr || node->spill == nullptr) continue;
    const TierUsage own = node->spill->usage();
    usage.directory->used_bytes += own.used_bytes;
    usage.directory->limit_bytes += own.limit_bytes;
    const std::uint64_t dirty = node->flusher == nullptr ? 0 : node->flusher->last_round().dirty_bytes;
    if (dirty == 0) {
      unflushed_since_.erase(domain);
      continue;
    }
    usage.unflushed_bytes += dirty;
    const auto now = std::chrono::steady_clock::now();
    const auto since = unflushed_since_.try_emplace(domain, now).first->second;
    usage.unflushed_s = std::max(usage.unflushed_s, std::chrono::duration<double>(now - since).count());
  }
  return usage;
}

std::shared_ptr<Node> Domains::node(const std::string& domain) {
  const std::lock_guard lock(mutex_);
  auto& node = nodes_[domain];
  if (node != nullptr) return node;
  SpillOptions spill{.domain = name_in_tiers(domain),
                     .mode = options_.directory_mode,
                     .limit_bytes = options_.directory_limit,
                     .durability = CacheOptions().spill_durability};
  if (redis_ != nullptr) spill.key_namespace = redis_->options().key_namespace;
  if (!options_.directory.empty()) spill.directories.push_back(options_.directory);
  return node = open_sharing_node(redis_, std::move(spill), options_.flusher, catalog_);
}

void Domains::tend() {
  const std::lock_guard lock(mutex_);
  for (const auto& [domain, node] : nodes_)
    if (node != nullptr && node->spill != nullptr) node->spill->tend();
}

}  // namespace alnair::manager
