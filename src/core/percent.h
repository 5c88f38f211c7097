// Percent-encoding, as in URLs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace alnair {

// Every %XX replaced by its byte; nullopt: a '%' begins none. '+' stays. Pure.
std::optional<std::string> percent_decoded(std::string_view text);

enum class Slashes { kEncode, kKeep };

// Every byte but A-Z a-z 0-9 - . _ ~ (and '/' where it is kept) as %XX, with upper-case digits. Pure.
std::string percent_encoded(std::string_view text, Slashes slashes = Slashes::kEncode);

}  // namespace alnair
