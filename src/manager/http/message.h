// Requests and answers as the API sees them, and problems: the one form of every error (RFC 7807).
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace alnair::manager {

struct Request {
  std::string id;  // made for it: in its answer's X-Request-Id, in problems and in the log
  std::string method;
  std::vector<std::string> path;             // percent-decoded segments: "/v1/jobs/a" is {"v1", "jobs", "a"}
  std::map<std::string, std::string> query;  // decoded
  std::string token;                         // of "Authorization: Bearer TOKEN"; empty: none was sent
  std::string content_type;
  std::string body;
  std::string peer;                 // address
  std::string certificate_refusal;  // why the client's certificate is no good where one is wanted; empty: all is well
};

struct Response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// Thrown by whatever serves a request; becomes a problem document. `type` is a word that programs compare
// ("unknown-job"), `detail` one sentence for people without a secret.
class Problem : public std::runtime_error {
 public:
  Problem(int status, std::string type, const std::string& detail, int retry_after_s = 0)
      : std::runtime_error(detail), status_(status), type_(std::move(type)), retry_after_s_(retry_after_s) {}

  int status() const { return status_; }
  const std::string& type() const { return type_; }
  int retry_after_s() const { return retry_after_s_; }  // 0: not said

 private:
  int status_;
  std::string type_;
  int retry_after_s_;
};

// {"type": "/problems/TYPE", "title", "status", "detail", "request_id"}. Pure.
Response problem_response(const Problem& problem, std::string_view request_id);

// "Not Found" for 404... Pure.
std::string_view status_title(int status);

// Splits a target as it was sent. False: malformed (a bad percent sequence, a zero byte, "." or ".." or an empty
// segment in the path, a parameter given twice). Pure.
bool parse_target(std::string_view path, std::string_view query, Request& request);

}  // namespace alnair::manager
