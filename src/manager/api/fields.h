// Reads a request's JSON strictly: every field has a type and limits, unknown fields are refused. Failures are Problems
// (400 malformed, 422 unfit) that name the field and what was expected.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace alnair::manager {

// The body as a JSON object; an empty one is {}. Depth is bounded. Problems: 400, 415.
nlohmann::json parse_body(const std::string& body, const std::string& content_type);

class Fields {
 public:
  // `object` must outlive this. `where` is its name in messages, empty for the body itself.
  Fields(const nlohmann::json& object, std::string where);

  bool has(const char* name) { return find(name, false) != nullptr; }

  // Text without control characters, of 1 (text_or: 0) to `longest` bytes. Messages do not quote it: it may be a
  // secret.
  std::string text(const char* name, std::size_t longest);
  std::string text_or(const char* name, std::size_t longest, std::string otherwise);
  std::optional<bool> boolean(const char* name);  // true, or "true" as job files have it
  std::optional<std::uint64_t> number(const char* name, std::uint64_t highest);
  // Of S3; empty: absent. ConfigError, which is answered as a Problem is: no endpoint.
  std::string endpoint_url(const char* name);
  std::string region(const char* name);
  std::vector<std::string> texts(const char* name, std::size_t most, std::size_t longest);  // absent: empty
  const nlohmann::json* object(const char* name, bool required);                            // null: absent
  std::vector<const nlohmann::json*> objects(const char* name, std::size_t most);           // at least one

  void end() const;  // refuses fields that were not asked for

 private:
  const nlohmann::json* find(const char* name, bool required);
  std::string path(const char* name) const;
  [[noreturn]] void refuse(const char* name, const std::string& expected) const;
  std::string checked_text(const char* name, const nlohmann::json& value, std::size_t longest) const;

  const nlohmann::json& object_;
  const std::string where_;
  std::set<std::string> asked_;
};

}  // namespace alnair::manager
