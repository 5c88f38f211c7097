#include "core/read_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "alnair/core/error.h"

namespace alnair {

std::optional<std::string> read_small_file(const std::string& path, std::uint64_t max_bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // never hangs on a named pipe
  if (file < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw ConfigError(fmt::format("Cannot open {}: {}.", path, std::strerror(errno)));
  }
  std::string text;
  char block[16384];
  ssize_t count = 0;
  while (text.size() <= max_bytes && (count = read(file, block, sizeof block)) != 0) {
    if (count > 0) text.append(block, static_cast<std::size_t>(count));
    if (count < 0 && errno != EINTR) break;
  }
  const int error = count < 0 ? errno : 0;
  close(file);
  if (error != 0) throw ConfigError(fmt::format("Cannot read {}: {}.", path, std::strerror(error)));
  if (text.size() > max_bytes)
    throw ConfigError(fmt::format("{} is larger than {} bytes; is it the right file?", path, max_bytes));
  return text;
}

}  // namespace alnair
