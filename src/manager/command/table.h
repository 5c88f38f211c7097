// Tables for people. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace alnair::manager {

// Columns as wide as their widest cell, two spaces apart; the first row is the heading. Control characters, which a key
// or a name from elsewhere could have, are shown as '?'.
std::string table(const std::vector<std::vector<std::string>>& rows);

std::string readable_bytes(std::uint64_t bytes);  // "1.5 GB"
std::string readable_age(double seconds);         // "3 s", "5 min", "2 h", "4 d"

}  // namespace alnair::manager
