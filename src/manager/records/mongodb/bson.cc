#include "manager/records/mongodb/bson.h"

#include <string>

#include "alnair/core/error.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

void append(bson_t* document, const std::string& key, const json& value);

void append_all(bson_t* document, const json& container) {
  std::size_t index = 0;
  for (const auto& item : container.items())
    append(document, container.is_array() ? std::to_string(index++) : item.key(), item.value());
}

void append(bson_t* document, const std::string& key, const json& value) {
  const int length = static_cast<int>(key.size());
  bool done = false;
  switch (value.type()) {
    case json::value_t::object:
      if (value.size() == 1 && value.contains("$date")) {
        done = bson_append_date_time(document, key.data(), length, value.at("$date").get<std::int64_t>());
        break;
      }
      [[fallthrough]];
    case json::value_t::array: {
      const Bson child;
      append_all(child.get(), value);
      done = value.is_array() ? bson_append_array(document, key.data(), length, child.get())
                              : bson_append_document(document, key.data(), length, child.get());
      break;
    }
    case json::value_t::string: {
      const auto& text = value.get_ref<const std::string&>();
      done = bson_append_utf8(document, key.data(), length, text.data(), static_cast<int>(text.size()));
      break;
    }
    case json::value_t::boolean: done = bson_append_bool(document, key.data(), length, value.get<bool>()); break;
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      done = bson_append_int64(document, key.data(), length, value.get<std::int64_t>());
      break;
    case json::value_t::number_float:
      done = bson_append_double(document, key.data(), length, value.get<double>());
      break;
    case json::value_t::binary: {
      const auto& bytes = value.get_binary();
      done = bson_append_binary(document, key.data(), length, BSON_SUBTYPE_BINARY, bytes.data(),
                                static_cast<std::uint32_t>(bytes.size()));
      break;
    }
    case json::value_t::null:
    case json::value_t::discarded: done = bson_append_null(document, key.data(), length); break;
  }
  if (!done) throw CacheError("A record is larger than a document of MongoDB may be.");
}

json read(bson_iter_t& position, bool array) {
  json container = array ? json::array() : json::object();
  while (bson_iter_next(&position)) {
    json value;
    bson_iter_t child;
    switch (bson_iter_type(&position)) {
      case BSON_TYPE_UTF8: {
        std::uint32_t length = 0;
        const char* text = bson_iter_utf8(&position, &length);
        value = std::string(text, length);
        break;
      }
      case BSON_TYPE_BINARY: {
        std::uint32_t length = 0;
        const std::uint8_t* bytes = nullptr;
        bson_iter_binary(&position, nullptr, &length, &bytes);
        value = json::binary({bytes, bytes + length});
        break;
      }
      case BSON_TYPE_BOOL: value = bson_iter_bool(&position); break;
      case BSON_TYPE_INT32:
      case BSON_TYPE_INT64: {
        // Unsigned where it may be, as the parser of JSON has it.
        const std::int64_t number = bson_iter_as_int64(&position);
        value = number < 0 ? json(number) : json(static_cast<std::uint64_t>(number));
        break;
      }
      case BSON_TYPE_DOUBLE: value = bson_iter_double(&position); break;
      case BSON_TYPE_DATE_TIME: value = bson_iter_date_time(&position); break;
      case BSON_TYPE_DOCUMENT:
      case BSON_TYPE_ARRAY:
        if (bson_iter_recurse(&position, &child)) value = read(child, bson_iter_type(&position) == BSON_TYPE_ARRAY);
        break;
      default: break;
    }
    if (array)
      container.push_back(std::move(value));
    else
      container[bson_iter_key(&position)] = std::move(value);
  }
  return container;
}

}  // namespace

Bson to_bson(const json& object) {
  Bson document;
  append_all(document.get(), object);
  return document;
}

json from_bson(const bson_t& document) {
  bson_iter_t position;
  if (!bson_iter_init(&position, &document)) throw CacheError("MongoDB sent a document that is damaged.");
  return read(position, false);
}

}  // namespace alnair::manager
