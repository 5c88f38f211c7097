// Logging: quiet by default. Messages go to a sink: stderr, or what the embedding program sets (Python's logger
// "alnair"). ALNAIR_LOG (debug, info, warning, error, off; default warning) sets the level.
//
// Thread safety: all functions may be called from any thread; a sink must be thread-safe too. No secrets in messages.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <string_view>

namespace alnair {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

using LogSink = std::function<void(LogLevel, std::string_view message)>;

// Empty: back to stderr. The old sink may still be running on another thread when this returns.
void set_log_sink(LogSink sink);
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void log_message(LogLevel level, std::string_view message);

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_message(level, fmt::format(format, std::forward<Args>(args)...));
}

// Lets a fault be logged once, not a thousand times: `if (once_.first()) log(...)`.
class Once {
 public:
  bool first() { return !done_.exchange(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> done_{false};
};

}  // namespace alnair
