#include "manager/cache/redis_users.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>
#include <utility>

#include "alnair/core/error.h"
#include "core/log.h"
#include "redis/info.h"

namespace alnair::manager {
namespace {

constexpr redis::CallOptions kPatience{.deadline = std::chrono::milliseconds(2'000)};
constexpr std::chrono::seconds kBetweenLooks{15};  // at all users of a node

redis::Command acl(std::vector<std::string> arguments) {
  redis::Command command{.args = {"ACL"}, .key = redis::Command::kNoKey};
  for (std::string& argument : arguments) command.args.emplace_back(std::move(argument));
  return command;
}

// Of CLUSTER NODES: "ID IP:PORT@BUSPORT[,HOSTNAME] FLAGS …", a line a node. Those that are known to be gone are left out.
std::vector<redis::Address> addresses_in(std::string_view text) {
  std::vector<redis::Address> found;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t first = line.find(' '), second = line.find(' ', first + 1), third = line.find(' ', second + 1);
    if (third == std::string_view::npos) continue;
    const std::string flags = fmt::format(",{},", line.substr(second + 1, third - second - 1));
    const auto is = [&](const char* flag) { return flags.find(flag) != std::string::npos; };
    if (is(",noaddr,") || is(",handshake,") || is(",fail,")) continue;
    const std::string_view where = line.substr(first + 1, second - first - 1);
    const std::string_view address = where.substr(0, where.find('@'));
    const std::size_t colon = address.rfind(':');
    unsigned port = 0;
    if (colon == std::string_view::npos || colon == 0) continue;
    std::from_chars(address.data() + colon + 1, address.data() + address.size(), port);
    if (port > 0 && port <= 65535)
      found.push_back({.host = std::string(address.substr(0, colon)), .port = static_cast<std::uint16_t>(port)});
  }
  return found;
}

// Throws for what no waiting mends.
void refuse(const redis::Result& result) {
  if (result.failure == redis::Failure::kDenied || result.failure == redis::Failure::kUnsupported)
    throw AccessError(fmt::format("Redis lets the manager make no users for jobs: {} Give its user +acl and "
                                  "+cluster|nodes, or set [redis] shared_url, which isolates no client from another",
                                  result.message));
}

}  // namespace

// No command that is allowed has to do with channels: Redis 6.0 does not know "resetchannels", and nothing needs it.
std::vector<std::string> rights_of_a_job(const std::string& prefix, const std::vector<std::string>& password_hashes,
                                         bool read_only) {
  std::vector<std::string> rights = {"reset", "on", "~" + prefix + "*", "-@all"};
  for (const std::string& hash : password_hashes) rights.push_back("#" + hash);
  for (const char* right : {"+info", "+get", "+exists", "+hmget", "+asking", "+readonly", "+cluster|slots"})
    rights.emplace_back(right);
  if (read_only) return rights;
  for (const char* right :
       {"+set", "+del", "+persist", "+pexpireat", "+hset", "+hget", "+hdel", "+hkeys", "+time", "+eval", "+evalsha"})
    rights.emplace_back(right);
  return rights;
}

RedisUsers::RedisUsers(std::shared_ptr<redis::Client> client)
    : client_(std::move(client)), prefix_(client_->options().key_namespace + "-job-") {}

std::string RedisUsers::name_of(const std::string& job) const { return prefix_ + job; }

void RedisUsers::check() {
  for (const auto& node : nodes()) refuse(node->call(acl({"WHOAMI"}), kPatience));
}

void RedisUsers::know(const std::string& job, const User& user) {
  const std::lock_guard lock(mutex_);
  users_[name_of(job)] = user;
}

void RedisUsers::change(const std::string& job, const User& user) {
  know(job, user);
  const std::lock_guard lock(mutex_);
  for (const auto& [address, client] : nodes_) outdated_.insert({address, name_of(job)});
}

void RedisUsers::add(const std::string& job, const User& user) {
  know(job, user);
  for (const auto& node : nodes()) create(*node, name_of(job), user);
}

void RedisUsers::remove(const std::string& job) {
  {
    const std::lock_guard lock(mutex_);
    users_.erase(name_of(job));
  }
  for (const auto& node : nodes()) node->call(acl({"DELUSER", name_of(job)}), kPatience);
}

void RedisUsers::create(redis::Client& node, const std::string& name, const User& user) {
  auto arguments = rights_of_a_job(client_->options().key_namespace + ":" + user.domain + ":", user.password_hashes,
                                   user.read_only);
  arguments.insert(arguments.begin(), {"SETUSER", name});
  const auto without = arguments;
  arguments.push_back("+cluster|shards");
  redis::Result result = node.call(acl(arguments), kPatience);
  // Redis 6 has no such command.
  if (result.failure == redis::Failure::kRefused) result = node.call(acl(without), kPatience);
  {
    const std::lock_guard lock(mutex_);
    const std::pair entry(node.options().seeds.front(), name);
    if (result.ok())
      outdated_.erase(entry);
    else
      outdated_.insert(entry);
  }
  refuse(result);
  say(result.message);
}

std::vector<std::shared_ptr<redis::Client>> RedisUsers::nodes() {
  std::vector<redis::Address> addresses;
  redis::Result listed = client_->call({.args = {"CLUSTER", "NODES"}, .key = redis::Command::kNoKey}, kPatience);
  if (listed.ok())
    addresses = addresses_in(listed.reply.text());
  else if (listed.failure == redis::Failure::kUnsupported || listed.failure == redis::Failure::kRefused)  // no cluster
    addresses = {client_->options().seeds.front()};
  else
    refuse(listed);
  if (addresses.empty()) say(listed.message);
  const std::lock_guard lock(mutex_);
  if (addresses.empty()) addresses = client_->options().seeds;
  std::vector<std::shared_ptr<redis::Client>> clients;
  const auto is_gone = [&](const auto& entry) {
    return std::find(addresses.begin(), addresses.end(), entry.first) == addresses.end();
  };
  std::erase_if(nodes_, is_gone);
  std::erase_if(looks_, is_gone);
  for (const redis::Address& address : addresses) {
    auto& client = nodes_[address];
    if (client == nullptr) {
      redis::Options options = client_->options();
      options.seeds = {address};
      options.mode = redis::Mode::kProxy;  // this very server, whatever it serves: a replica, too
      client = redis::open(options);
    }
    clients.push_back(client);
  }
  return clients;
}

void RedisUsers::reconcile() {
  for (const auto& node : nodes()) {
    const redis::Result info = node->call({.args = {"INFO", "server"}, .key = redis::Command::kNoKey}, kPatience);
    const std::string run(info.ok() ? redis::info_field(info.reply.text(), "run_id") : "");
    const redis::Address address = node->options().seeds.front();
    if (!is_due(address, run) || !look_at(*node)) continue;
    const std::lock_guard lock(mutex_);
    looks_[address] = {run, Clock::now()};
  }
}

// A server that does not say which run it is may have started again at any time.
bool RedisUsers::is_due(const redis::Address& address, const std::string& run) const {
  const std::lock_guard lock(mutex_);
  const auto last = looks_.find(address);
  const bool outdated =
      std::any_of(outdated_.begin(), outdated_.end(), [&](const auto& entry) { return entry.first == address; });
  return outdated || run.empty() || last == looks_.end() || last->second.run != run ||
         Clock::now() - last->second.at >= kBetweenLooks;
}

bool RedisUsers::look_at(redis::Client& node) {
  const redis::Result listed = node.call(acl({"USERS"}), kPatience);
  refuse(listed);
  if (!listed.ok()) {
    say(listed.message);
    return false;
  }
  std::set<std::string> present;
  for (const redis::Reply& name : listed.reply.elements)
    if (name.text().starts_with(prefix_)) present.emplace(name.text());
  std::map<std::string, User> missing;
  std::vector<std::string> orphans;
  const redis::Address address = node.options().seeds.front();
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(outdated_, [&](const auto& entry) { return !users_.contains(entry.second); });
    for (const auto& [name, user] : users_)
      if (!present.contains(name) || outdated_.contains({address, name})) missing.emplace(name, user);
    for (const std::string& name : present)
      if (!users_.contains(name)) orphans.push_back(name);
  }
  for (const auto& [name, user] : missing) create(node, name, user);
  for (const std::string& name : orphans) node.call(acl({"DELUSER", name}), kPatience);
  return true;
}

void RedisUsers::say(const std::string& problem) {
  if (problem.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(said_, problem) == problem) return;
  }
  log(LogLevel::kWarning, "users of jobs in Redis: {}", problem);
}

}  // namespace alnair::manager
