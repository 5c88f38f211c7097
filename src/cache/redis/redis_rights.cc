#include "cache/redis/redis_rights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "alnair/core/error.h"
#include "core/log.h"

namespace alnair {

void check_redis_rights(redis::Client& client, const RedisKeys& keys, bool flushes) {
  const std::string absent = keys.prefix() + "rights";  // of no meaning; there for a moment at most
  const std::string digest(40, '0');                    // of no script
  constexpr std::size_t kNoKey = redis::Command::kNoKey;
  std::vector<redis::Command> commands{
      {.args = {"GET", absent}},
      {.args = {"HMGET", absent, "f"}},
      {.args = {"EXISTS", absent}},
      {.args = {"HGET", absent, "f"}},
      {.args = {"HKEYS", absent}},
      {.args = {"HDEL", absent, "f"}},
      {.args = {"DEL", absent}},
      {.args = {"HSET", absent, "f", "v"}},  // and it is deleted below
      {.args = {"EVAL", "return 0", "1", absent}, .key = 3},
      {.args = {"EVALSHA", digest, "1", absent}, .key = 3},
      {.args = {"TIME"}, .key = kNoKey},
      {.args = {"SET", keys.format(), "0", "NX"}},  // it is there, if anything may be set
  };
  if (flushes)
    for (redis::Command& command : std::vector<redis::Command>{{.args = {"SCAN", "0", "COUNT", "1"}, .key = kNoKey},
                                                               {.args = {"PTTL", absent}},
                                                               {.args = {"GETRANGE", absent, "0", "0"}},
                                                               {.args = {"PEXPIREAT", absent, "4102444800000"}},
                                                               {.args = {"PERSIST", absent}}})
      commands.push_back(std::move(command));
  std::vector<std::string> names;
  for (const redis::Command& command : commands) names.push_back(command.args.front().text);
  const auto results = client.call(std::move(commands));
  client.run({{.args = {"DEL", absent}}}, [](std::size_t, redis::Result&&) {});
  std::vector<std::string> denied;
  std::string message;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (results[i].failure != redis::Failure::kDenied) continue;
    if (denied.empty()) message = results[i].message;
    denied.push_back(names[i]);
  }
  if (denied.empty()) return;
  const auto is_denied = [&](std::string_view name) { return std::find(denied.begin(), denied.end(), name) != denied.end(); };
  const std::string all = fmt::format("{} Denied are {}; docs/cluster.md has the rights of a job's user", message, fmt::join(denied, ", "));
  if (is_denied("GET") || is_denied("HMGET")) throw AccessError("redis: " + all);
  // Who may set nothing is meant to read only.
  log(is_denied("SET") ? LogLevel::kInfo : LogLevel::kWarning, "redis: what needs more rights is left out: {}", all);
}

}  // namespace alnair
