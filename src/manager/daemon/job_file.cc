#include "manager/daemon/job_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "core/log.h"
#include "core/nearest_names.h"
#include "core/read_file.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

// With field names in lower case.
json folded(const json& value) {
  if (!value.is_object()) return value;
  json result = json::object();
  for (const auto& [name, item] : value.items()) result[lower(name)] = folded(item);
  return result;
}

// Discarded: it is malformed, or so deep that walking it would exhaust the stack.
json parsed(const std::string& text) {
  constexpr int kDeepest = 32;
  bool too_deep = false;
  json value = json::parse(text, [&](int depth, json::parse_event_t, json&) { return !(too_deep |= depth > kDeepest); }, false);
  return too_deep ? json(json::value_t::discarded) : value;
}

class Fields {
 public:
  Fields(const json& object, std::string path, std::string prefix)
      : object_(object), path_(std::move(path)), prefix_(std::move(prefix)) {}

  bool boolean(const char* name, bool otherwise) const {
    const json* value = find(name);
    if (value == nullptr) return otherwise;
    if (value->is_boolean()) return value->get<bool>();
    const std::string text = value->is_string() ? lower(value->get<std::string>()) : value->dump();
    for (const char* word : {"true", "1", "yes", "on"})
      if (text == word) return true;
    for (const char* word : {"false", "0", "no", "off"})
      if (text == word) return false;
    fail(name, "true or false");
  }

  std::uint64_t number(const char* name, std::uint64_t otherwise) const {
    const json* value = find(name);
    if (value == nullptr) return otherwise;
    const std::string text = value->is_string() ? value->get<std::string>() : value->dump();
    std::uint64_t result = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    if (error != std::errc() || end != text.data() + text.size()) fail(name, "a whole number");
    return result;
  }

  std::string text(const char* name) const {
    const json* value = find(name);
    if (value == nullptr || !value->is_string() || value->get<std::string>().empty()) fail(name, "a text");
    return *value;
  }

  std::vector<std::string> texts(const char* name) const {
    const json* value = find(name);
    if (value == nullptr) return {};
    if (value->is_string()) return {value->get<std::string>()};
    std::vector<std::string> result;
    if (!value->is_array()) fail(name, "a list of texts");
    for (const json& item : *value) {
      if (!item.is_string()) fail(name, "a list of texts");
      result.push_back(item);
    }
    return result;
  }

  // An empty object where it is absent and not required.
  json object(const char* name, bool required) const {
    const json* value = find(name);
    if (value == nullptr && !required) return json::object();
    if (value == nullptr || !value->is_object()) fail(name, "an object");
    return *value;
  }

  [[noreturn]] void fail(const char* name, const char* expected) const {
    throw ConfigError(fmt::format("{}, field {}{}: expected {}", path_, prefix_, name, expected));
  }

 private:
  const json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  const json& object_;
  const std::string path_, prefix_;
};

}  // namespace

JobOptions read_job_file(const std::string& path, const std::string& name) {
  const auto text = read_small_file(path);
  if (!text) throw ConfigError(fmt::format("{}: no such file", path));
  const json given = parsed(*text), content = folded(given);
  if (!content.is_object())
    throw ConfigError(fmt::format("{}: expected a JSON object with the fields name, datasource and qos", path));
  const Fields fields(content, path, "");
  const json source = fields.object("datasource", true), qos = fields.object("qos", false);
  const Fields source_fields(source, path, "datasource."), qos_fields(qos, path, "qos.");
  JobOptions job;
  job.name = name;
  job.bucket = source_fields.text("bucket");
  if (job.bucket.find('/') != std::string::npos) source_fields.fail("bucket", "the name of a bucket");
  job.keys = source_fields.texts("keys");
  job.usecache = qos_fields.boolean("usecache", job.usecache);
  job.maxmemory = qos_fields.number("maxmemory", job.maxmemory);
  job.durabilityindisk = qos_fields.number("durabilityindisk", job.durabilityindisk);
  job.lazyloading = qos_fields.boolean("lazyloading", job.lazyloading);
  job.single_pass = qos_fields.boolean("single_pass", job.single_pass);
  for (const auto& [field, value] : given.items())  // names in it are the user's own
    if (lower(field) == "resourceinfo" || lower(field) == "resources") {
      if (!value.is_object()) fields.fail(lower(field).c_str(), "an object");
      job.resources = value.dump(-1, ' ', false, json::error_handler_t::replace);
    }
  for (const auto& [field, value] : qos.items()) {
    const std::vector<std::string> known = {"usecache", "maxmemory", "durabilityindisk", "lazyloading", "single_pass"};
    if (std::find(known.begin(), known.end(), field) != known.end()) continue;
    const auto near = nearest_names(field, known, 1);
    log(LogLevel::kWarning, "{}, field qos.{}: is unknown, and has no effect{}", path, field,
        near.empty() ? "" : fmt::format("; did you mean {}?", near.front()));
  }
  return job;
}

}  // namespace alnair::manager
