// What a server answered.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "alnair/core/bytes.h"

namespace alnair::redis {

// Arrays nest. Copies share the bytes.
struct Reply {
  enum class Type { kNil, kStatus, kInteger, kBulk, kArray, kError };
  Type type = Type::kNil;
  std::int64_t integer = 0;
  View bytes = {};                   // of kBulk, kStatus, kError
  std::vector<Reply> elements = {};  // of kArray

  bool is_nil() const { return type == Type::kNil; }
  std::string_view text() const { return bytes.text(); }
};

}  // namespace alnair::redis
