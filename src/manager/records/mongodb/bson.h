// BSON as JSON values and back. What JSON lacks: bytes are json::binary, times {"$date": milliseconds}.
#pragma once

#include <bson/bson.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace alnair::manager {

class Bson {  // no unique_ptr: bson_t has an alignment that templates do not keep
 public:
  Bson() : document_(bson_new()) {}
  Bson(Bson&& other) noexcept : document_(std::exchange(other.document_, nullptr)) {}
  Bson& operator=(Bson&&) = delete;
  ~Bson() { bson_destroy(document_); }
  bson_t* get() const { return document_; }

 private:
  bson_t* document_;
};

// `object` is a JSON object of valid UTF-8. Throws CacheError: it is larger than MongoDB's documents may be.
Bson to_bson(const nlohmann::json& object);

// Times become plain numbers of milliseconds; what has no counterpart becomes null.
nlohmann::json from_bson(const bson_t& document);

}  // namespace alnair::manager
