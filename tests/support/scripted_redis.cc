#include "support/scripted_redis.h"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <utility>

namespace alnair::testing {
namespace {

// Takes a whole command from the front of `bytes`.
std::optional<std::vector<std::string>> take_command(std::string& bytes) {
  std::size_t at = 0;
  const auto number = [&](char kind) -> std::optional<std::size_t> {
    const std::size_t end = bytes.find("\r\n", at);
    if (end == std::string::npos || bytes[at] != kind) return std::nullopt;
    const auto value = std::strtoul(bytes.c_str() + at + 1, nullptr, 10);
    at = end + 2;
    return value;
  };
  const auto count = number('*');
  if (!count) return std::nullopt;
  std::vector<std::string> arguments;
  for (std::size_t i = 0; i < *count; ++i) {
    const auto length = number('$');
    if (!length || bytes.size() < at + *length + 2) return std::nullopt;
    arguments.push_back(bytes.substr(at, *length));
    at += *length + 2;
  }
  bytes.erase(0, at);
  return arguments;
}

}  // namespace

ScriptedRedis::ScriptedRedis(Handler handler)
    : server_([handler = std::move(handler)](std::string& bytes) -> std::optional<std::string> {
        const auto arguments = take_command(bytes);
        if (!arguments) return std::nullopt;
        return handler(*arguments);
      }) {}

std::string ScriptedRedis::hello(const std::string& mode, const std::string& version) {
  return fmt::format("*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n${}\r\n{}\r\n$4\r\nmode\r\n${}\r\n{}\r\n",
                     version.size(), version, mode.size(), mode);
}

std::string ScriptedRedis::all_slots() const {
  return fmt::format("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n", port());
}

}  // namespace alnair::testing
