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

std::string text_line(const char* level, std::string_view message) {
  const std::string of = request_id == nullptr ? "" : fmt::format(" [{}]", *request_id);
  return fmt::format("{} {}{}: {}", time_now(), level, of, message);
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
