#include "manager/server/log_lines.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/log.h"

namespace alnair::manager {
namespace {

constexpr const char* kLevels[] = {"debug", "info", "warning", "error", "off"};

std::string time_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

thread_local const std::string* request_id = nullptr;

std::string json_line(const char* level, std::string_view message) {
  nlohmann::json line = {{"time", time_now()}, {"level", level}, {"message", message}};
  if (request_id != nullptr) line["request_id"] = *request_id;
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// What a file's name or somebody's server says must not look like another line, nor speak to a terminal.
std::string in_one_line(std::string_view message) {
  std::string line;
  for (const char c : message)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      line += c;
  return line;
}

std::string text_line(const char* level, std::string_view message) {
  const std::string of = request_id == nullptr ? "" : fmt::format(" [{}]", *request_id);
  return fmt::format("{} {}{}: {}", time_now(), level, of, in_one_line(message));
}

}  // namespace

LogOfRequest::LogOfRequest(const std::string& id) { request_id = &id; }
LogOfRequest::~LogOfRequest() { request_id = nullptr; }

void start_log(bool json) {
  if (const char* level = std::getenv("ALNAIR_LOG"); level == nullptr || *level == '\0') set_log_level(LogLevel::kInfo);
  set_log_sink([json](LogLevel level, std::string_view message) {
    const char* name = kLevels[static_cast<int>(level)];
    const std::string line = (json ? json_line(name, message) : text_line(name, message)) + "\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  });
}

}  // namespace alnair::manager
