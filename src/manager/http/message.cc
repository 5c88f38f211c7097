#include "manager/http/message.h"

#include <nlohmann/json.hpp>
#include <optional>

namespace alnair::manager {
namespace {

int hex_digit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

std::optional<std::string> decoded(std::string_view text, bool plus_is_space) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0) return std::nullopt;
      c = static_cast<char>(hex_digit(text[i + 1]) << 4 | hex_digit(text[i + 2]));
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    if (c == '\0') return std::nullopt;
    result += c;
  }
  return result;
}

// Calls `visit` with each part between separators; false as soon as it returns false.
template <typename Visit>
bool split(std::string_view text, char separator, const Visit& visit) {
  for (;;) {
    const std::size_t end = text.find(separator);
    if (!visit(text.substr(0, end))) return false;
    if (end == std::string_view::npos) return true;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::string_view status_title(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 431:
      return "Request Header Fields Too Large";
    case 429:
      return "Too Many Requests";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    default:
      return status < 500 ? "Request Failed" : "Internal Server Error";
  }
}

Response problem_response(const Problem& problem, std::string_view request_id) {
  const nlohmann::json document = {{"type", "/problems/" + problem.type()},
                                   {"title", status_title(problem.status())},
                                   {"status", problem.status()},
                                   {"detail", problem.what()},
                                   {"request_id", request_id}};
  Response response;
  response.status = problem.status();
  response.content_type = "application/problem+json";
  // What a client sent may be quoted, and need not be UTF-8.
  response.body = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (problem.retry_after_s() > 0)
    response.headers.emplace_back("Retry-After", std::to_string(problem.retry_after_s()));
  if (problem.status() == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

bool parse_target(std::string_view path, std::string_view query, Request& request) {
  if (path.empty() || path.front() != '/') return false;
  if (path != "/" && !split(path.substr(1), '/', [&](std::string_view segment) {
        auto text = decoded(segment, false);
        if (!text || text->empty() || *text == "." || *text == "..") return false;
        request.path.push_back(std::move(*text));
        return true;
      }))
    return false;
  return query.empty() || split(query, '&', [&](std::string_view pair) {
           const std::size_t equals = pair.find('=');
           auto name = decoded(pair.substr(0, equals), true);
           auto value = decoded(equals == std::string_view::npos ? "" : pair.substr(equals + 1), true);
           return name && value && request.query.emplace(std::move(*name), std::move(*value)).second;
         });
}

}  // namespace alnair::manager
