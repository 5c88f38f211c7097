#include "core/log.h"

#include <unistd.h>

#include <cstdlib>

namespace alnair {
namespace {

LogLevel level_from_environment() {
  const char* text = std::getenv("ALNAIR_LOG");
  const std::string_view name = text == nullptr ? "" : text;
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return LogLevel::kWarning;
}

std::atomic<int>& level() {
  static std::atomic<int> value{static_cast<int>(level_from_environment())};
  return value;
}

// Replaced sinks are kept for ever: another thread, or a forked child's, may still be inside one. No lock to inherit.
struct KeptSink {
  LogSink sink;
  const KeptSink* older;
};
std::atomic<const KeptSink*> g_kept{nullptr};
std::atomic<const LogSink*> g_sink{nullptr};

}  // namespace

void set_log_sink(LogSink new_sink) {
  if (!new_sink) return g_sink.store(nullptr, std::memory_order_release);
  auto* kept = new KeptSink{std::move(new_sink), g_kept.load()};
  while (!g_kept.compare_exchange_weak(kept->older, kept)) {
  }
  g_sink.store(&kept->sink, std::memory_order_release);
}

void set_log_level(LogLevel new_level) { level().store(static_cast<int>(new_level)); }

bool log_enabled(LogLevel message_level) {
  return static_cast<int>(message_level) >= level().load(std::memory_order_relaxed);
}

void log_message(LogLevel message_level, std::string_view message) {
  if (const LogSink* sink = g_sink.load(std::memory_order_acquire)) return (*sink)(message_level, message);
  static constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "off"};
  const std::string line =
      fmt::format("alnair: {}: {}\n", kNames[static_cast<int>(message_level)], message);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());  // one write: lines stay whole
}

}  // namespace alnair
