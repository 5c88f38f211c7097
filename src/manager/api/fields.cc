#include "manager/api/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>

#include "core/nearest_names.h"
#include "manager/http/message.h"
#include "source/url.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

constexpr int kDeepest = 16;

// U+0000 to U+001F and U+007F to U+009F, which terminals may obey.
bool has_control_characters(const std::string& text) {
  unsigned char before = 0;
  return std::any_of(text.begin(), text.end(), [&](unsigned char c) {
    const bool of_two_bytes = std::exchange(before, c) == 0xc2 && c >= 0x80 && c < 0xa0;
    return c < 0x20 || c == 0x7f || of_two_bytes;
  });
}

}  // namespace

json parse_body(const std::string& body, const std::string& content_type) {
  if (body.empty()) return json::object();
  if (!content_type.empty() && !content_type.starts_with("application/json"))
    throw Problem(415, "no-json", "expected a body of the content type application/json");
  bool too_deep = false;
  json value;
  try {
    value = json::parse(body, [&](int depth, json::parse_event_t, json&) { return !(too_deep |= depth > kDeepest); });
  } catch (const json::parse_error& error) {
    // Without the message's quotation of what it read, which may be a secret.
    throw Problem(400, "malformed-json", fmt::format("the body is no JSON (at byte {})", error.byte));
  } catch (const json::exception&) {  // 1e999
    throw Problem(400, "malformed-json", "the body has a number that is larger than a double can be");
  }
  if (too_deep) throw Problem(400, "malformed-json", fmt::format("the body is nested more than {} deep", kDeepest));
  if (!value.is_object()) throw Problem(422, "invalid-field", "the body: expected a JSON object");
  return value;
}

Fields::Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object_.is_object()) throw Problem(422, "invalid-field", fmt::format("{}: expected an object", where_));
}

std::string Fields::path(const char* name) const { return where_.empty() ? name : where_ + "." + name; }

void Fields::refuse(const char* name, const std::string& expected) const {
  throw Problem(422, "invalid-field", fmt::format("{}: expected {}", path(name), expected));
}

const json* Fields::find(const char* name, bool required) {
  asked_.insert(name);
  const auto found = object_.find(name);
  if (found != object_.end() && !found->is_null()) return &*found;
  if (required) throw Problem(422, "missing-field", fmt::format("{} is missing", path(name)));
  return nullptr;
}

std::string Fields::checked_text(const char* name, const json& value, std::size_t longest) const {
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr || text->size() > longest) refuse(name, fmt::format("a text of at most {} bytes", longest));
  if (has_control_characters(*text)) refuse(name, "a text without control characters");
  return *text;
}

std::string Fields::text(const char* name, std::size_t longest) {
  std::string found = checked_text(name, *find(name, true), longest);
  if (found.empty()) refuse(name, "a text that is not empty");
  return found;
}

std::string Fields::text_or(const char* name, std::size_t longest, std::string otherwise) {
  const json* value = find(name, false);
  return value == nullptr ? otherwise : checked_text(name, *value, longest);
}

std::optional<bool> Fields::boolean(const char* name) {
  const json* value = find(name, false);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  refuse(name, "true or false");
}

std::optional<std::uint64_t> Fields::number(const char* name, std::uint64_t highest) {
  const json* value = find(name, false);
  if (value == nullptr) return std::nullopt;
  std::optional<std::uint64_t> number;
  if (value->is_number_unsigned()) {
    number = value->get<std::uint64_t>();
  } else if (value->is_number_float()) {  // 5.0 is a whole number, too
    constexpr double kExact = 1ull << 53;
    const auto given = value->get<double>();
    if (given >= 0 && given <= kExact && given == std::floor(given)) number = static_cast<std::uint64_t>(given);
  }
  if (!number || *number > highest) refuse(name, fmt::format("a whole number from 0 to {}", highest));
  return number;
}

std::string Fields::endpoint_url(const char* name) {
  std::string url = text_or(name, 2048, "");
  if (!url.empty()) parse_endpoint_url(url, path(name));
  return url;
}

std::string Fields::region(const char* name) {
  std::string region = text_or(name, 64, "");
  const auto fit = [](unsigned char c) { return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '_'); };
  if (!std::all_of(region.begin(), region.end(), fit)) refuse(name, "the name of a region, such as us-east-1");
  return region;
}

std::vector<std::string> Fields::texts(const char* name, std::size_t most, std::size_t longest) {
  const json* value = find(name, false);
  std::vector<std::string> found;
  if (value == nullptr) return found;
  if (!value->is_array() || value->size() > most) refuse(name, fmt::format("a list of at most {} texts", most));
  for (const json& item : *value) {
    found.push_back(checked_text(name, item, longest));
    if (found.back().empty()) refuse(name, "texts that are not empty");
  }
  return found;
}

const json* Fields::object(const char* name, bool required) {
  const json* value = find(name, required);
  if (value != nullptr && !value->is_object()) refuse(name, "an object");
  return value;
}

std::vector<const nlohmann::json*> Fields::objects(const char* name, std::size_t most) {
  const nlohmann::json* value = find(name, true);
  std::vector<const nlohmann::json*> result;
  if (value->is_array() && !value->empty() && value->size() <= most)
    for (const nlohmann::json& item : *value)
      if (item.is_object()) result.push_back(&item);
  if (result.empty() || result.size() != value->size())
    refuse(name, fmt::format("a list of 1 to {} objects", most));
  return result;
}

void Fields::end() const {
  for (const auto& [name, value] : object_.items()) {
    if (asked_.contains(name)) continue;
    const auto near = nearest_names(name, {asked_.begin(), asked_.end()}, 1);
    throw Problem(422, "unknown-field",
                  fmt::format("{} is no field{}", path(name.c_str()),
                              near.empty() ? "" : fmt::format("; did you mean {}?", path(near.front().c_str()))));
  }
}

}  // namespace alnair::manager
