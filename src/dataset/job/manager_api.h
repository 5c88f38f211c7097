// The calls of the manager's API that a job needs. Each blocks; what fails is a ManagerFailure.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>

#include "alnair/dataset/job_client.h"
#include "http/client.h"

namespace alnair {

// what() is a sentence for people.
class ManagerFailure : public std::runtime_error {
 public:
  ManagerFailure(int status, std::string type, const std::string& detail, std::chrono::seconds retry_after = {})
      : std::runtime_error(detail), status_(status), type_(std::move(type)), retry_after_(retry_after) {}
  int status() const { return status_; }             // 0: there was no answer
  const std::string& type() const { return type_; }  // of the problem document: "unknown-job"; empty: it was none
  std::chrono::seconds retry_after() const { return retry_after_; }

 private:
  int status_;
  std::string type_;
  std::chrono::seconds retry_after_;
};

class ManagerApi {
 public:
  // `tls_cert` and `tls_key`: the client's own. Throws ConfigError.
  explicit ManagerApi(const std::string& url, const std::string& ca_bundle = "", std::string tls_cert = "",
                      std::string tls_key = "");

  // Called every 100 ms while a call waits; may throw. And how long a call may take.
  void set_interrupt(std::function<void()> interrupt) { interrupt_ = std::move(interrupt); }
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  // `body` null: none is sent. The answer's body, parsed; null for an empty one.
  nlohmann::json call(HttpMethod method, const std::string& path, const std::string& token, const nlohmann::json& body);
  View download(const std::string& path, const std::string& token);

  const std::string& url() const { return url_; }

 private:
  HttpResponse send(HttpMethod method, const std::string& path, const std::string& token, std::string body);

  std::string url_, tls_cert_, tls_key_;
  std::shared_ptr<HttpClient> http_;
  std::function<void()> interrupt_;
  std::chrono::milliseconds timeout_{30'000};
};

}  // namespace alnair
