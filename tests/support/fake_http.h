// An HttpClient without a network: answers come from a function of the test's own.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "http/client.h"

namespace alnair::testing {

class FakeHttp final : public HttpClient {
 public:
  using Answer = std::function<HttpResponse(const HttpRequest&)>;
  explicit FakeHttp(Answer answer) : answer_(std::move(answer)) {}

  std::shared_ptr<HttpTransfer> start(HttpRequest request, HttpDone done) override {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    done(answer_(request));
    return std::make_shared<Transfer>();
  }
  void run_after(std::chrono::milliseconds, std::function<void()> task) override { task(); }
  void set_max_requests(int) override {}

  std::vector<HttpRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  struct Transfer final : HttpTransfer {
    void cancel() override {}
    std::optional<std::chrono::steady_clock::time_point> last_progress() const override {
      return std::nullopt;
    }
  };
  const Answer answer_;
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
};

inline HttpResponse http_answer(int status, std::string_view body) {
  HttpResponse response;
  response.status = status;
  Buffer buffer(body.size());
  std::copy(body.begin(), body.end(), reinterpret_cast<char*>(buffer.data()));
  response.body = std::move(buffer).freeze();
  return response;
}

inline HttpResponse http_failure(HttpFailure failure, std::string text) {
  HttpResponse response;
  response.failure = failure;
  response.failure_text = std::move(text);
  return response;
}

}  // namespace alnair::testing
