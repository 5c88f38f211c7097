// Small configuration files, read whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace alnair {

// The file's bytes; nullopt: there is no such file. Throws ConfigError that names the path when it is a
// directory, unreadable or larger than `max_bytes`. Thread-safe.
std::optional<std::string> read_small_file(const std::string& path, std::uint64_t max_bytes = 1 << 20);

}  // namespace alnair
