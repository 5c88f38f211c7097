// Percent-encoding, as in URLs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace alnair {

// Every %XX replaced by its byte; nullopt: a '%' begins none. '+' stays. Pure.
std::optional<std::string> percent_decoded(std::string_view text);

// Everything but letters, digits, '-', '_', '.' and '~' as %XX. Pure.
std::string percent_encoded(std::string_view text);

}  // namespace alnair
