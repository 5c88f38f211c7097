#include "redis/server_error.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <utility>

#include "redis/slot_map.h"

namespace alnair::redis {
namespace {

constexpr std::size_t kQuoted = 200;  // characters

// "3999 10.0.0.1:6381", "3999 :6381", "3999 ::1:6381"
bool parse_redirection(std::string_view text, ServerErrorInfo& info) {
  const std::size_t space = text.find(' '), colon = text.rfind(':');
  if (space == std::string_view::npos || colon == std::string_view::npos || colon < space) return false;
  unsigned slot = 0, port = 0;
  const auto number = [](std::string_view digits, unsigned& value) {
    const auto [stopped, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && stopped == digits.data() + digits.size();
  };
  if (!number(text.substr(0, space), slot) || slot >= kSlots) return false;
  if (!number(text.substr(colon + 1), port) || port == 0 || port > 65535) return false;
  info.slot = static_cast<std::uint16_t>(slot);
  info.target = {.host = std::string(text.substr(space + 1, colon - space - 1)),
                 .port = static_cast<std::uint16_t>(port)};
  if (info.target.host == "?") info.target.host.clear();
  return true;
}

}  // namespace

ServerErrorInfo understand(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, ServerError>, 14> kCodes{{
      {"MOVED", ServerError::kMoved},
      {"ASK", ServerError::kAsk},
      {"TRYAGAIN", ServerError::kTryAgain},
      {"CLUSTERDOWN", ServerError::kClusterDown},
      {"MASTERDOWN", ServerError::kMasterDown},
      {"READONLY", ServerError::kReadOnly},
      {"LOADING", ServerError::kLoading},
      {"BUSY", ServerError::kBusy},
      {"NOSCRIPT", ServerError::kNoScript},
      {"NOAUTH", ServerError::kNoAuth},
      {"WRONGPASS", ServerError::kWrongPass},
      {"NOPERM", ServerError::kNoPerm},
      {"OOM", ServerError::kOutOfMemory},
      {"NOREPLICAS", ServerError::kClusterDown},
  }};
  const std::string_view code = text.substr(0, text.find(' '));
  const std::string_view rest = code.size() < text.size() ? text.substr(code.size() + 1) : "";
  ServerErrorInfo info;
  for (const auto& [name, error] : kCodes)
    if (code == name) info.error = error;
  if ((info.error == ServerError::kMoved || info.error == ServerError::kAsk) && !parse_redirection(rest, info))
    info.error = ServerError::kOther;
  if (info.error != ServerError::kOther) return info;
  // What scripts and older servers wrap in ERR.
  if (rest.starts_with("unknown command") || rest.starts_with("unknown subcommand") ||
      rest.starts_with("Unknown subcommand") || rest.starts_with("unsupported command") ||
      rest.find("cluster support disabled") != std::string_view::npos)
    info.error = ServerError::kUnknownCommand;
  else if (text.find("OOM command not allowed") != std::string_view::npos)
    info.error = ServerError::kOutOfMemory;
  else if (rest.starts_with("invalid password") || rest.starts_with("invalid username-password pair"))
    info.error = ServerError::kWrongPass;
  else if (rest.starts_with("operation not permitted"))
    info.error = ServerError::kNoAuth;
  return info;
}

Failure failure_of(ServerError error) {
  switch (error) {
    case ServerError::kMoved:
    case ServerError::kAsk:
    case ServerError::kTryAgain:
    case ServerError::kClusterDown:
    case ServerError::kMasterDown:
    case ServerError::kReadOnly:
    case ServerError::kLoading:
    case ServerError::kBusy:
      return Failure::kUnavailable;
    case ServerError::kNoAuth:
    case ServerError::kWrongPass:
    case ServerError::kNoPerm:
      return Failure::kDenied;
    case ServerError::kOutOfMemory:
      return Failure::kNoRoom;
    case ServerError::kUnknownCommand:
      return Failure::kUnsupported;
    case ServerError::kNoScript:
    case ServerError::kOther:
      break;
  }
  return Failure::kRefused;
}

std::string quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text.substr(0, kQuoted))
    result.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c);
  if (text.size() > kQuoted) result += "...";
  result += "'";
  return result;
}

}  // namespace alnair::redis
