#include "http/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "support/http_server.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;
using testing::HttpServer;
using testing::Reply;
using testing::SeenRequest;

HttpRequest get(const std::string& url) {
  HttpRequest request;
  request.url = url;
  return request;
}

TEST(HttpClient, SendsMethodHeadersAndBodyAndReturnsTheAnswer) {
  HttpServer server([](const SeenRequest& request) {
    Reply reply;
    reply.status = 201;
    reply.headers = {{"X-Answer", "  yes  "}};
    reply.body =
        request.method + " " + request.target + " " + request.header("x-question") + " " + request.body;
    return reply;
  });
  const auto client = make_http_client({});
  for (const auto& [method, name] : {std::pair{HttpMethod::kPost, "POST"},
                                     {HttpMethod::kGet, "GET"},
                                     {HttpMethod::kPut, "PUT"},
                                     {HttpMethod::kDelete, "DELETE"},
                                     {HttpMethod::kGet, "GET"}}) {
    HttpRequest request = get(server.url() + "/a//b/../c%20d?x=1");
    request.method = method;
    request.headers.add("X-Question", "why");
    if (method == HttpMethod::kPost || method == HttpMethod::kPut) request.body = "{}";
    const std::string body = request.body;
    const HttpResponse response = client->call(std::move(request));
    EXPECT_EQ(response.status, 201);
    EXPECT_TRUE(response.ok());
    EXPECT_EQ(response.headers.find("x-answer"), "yes");
    EXPECT_EQ(response.body.text(), std::string(name) + " /a//b/../c%20d?x=1 why " + body);
  }
  HttpRequest head = get(server.url());
  head.method = HttpMethod::kHead;
  const HttpResponse response = client->call(std::move(head));
  EXPECT_EQ(response.status, 201);
  EXPECT_TRUE(response.body.empty());
  EXPECT_EQ(server.connections(), 1) << "connections are kept";
}

TEST(HttpClient, ReadsBodiesOfUnknownLength) {
  HttpServer server([](const SeenRequest&) {
    Reply reply;
    reply.chunked = true;
    reply.body = std::string(300'000, 'c');
    return reply;
  });
  EXPECT_EQ(make_http_client({})->call(get(server.url())).body.size(), 300'000u);
}

TEST(HttpClient, FollowsNoRedirect) {
  HttpServer server([](const SeenRequest&) {
    Reply reply;
    reply.status = 302;
    reply.headers = {{"Location", "http://127.0.0.1:1/"}};
    return reply;
  });
  EXPECT_EQ(make_http_client({})->call(get(server.url())).status, 302);
}

TEST(HttpClient, TellsFailuresApart) {
  std::atomic<int> mode{0};
  HttpServer server([&](const SeenRequest&) {
    Reply reply;
    reply.body = std::string(1000, 'x');
    if (mode == 0) reply.reset = true;
    if (mode == 1) reply.cut_after = 500;
    if (mode == 2) reply.stall_after = 500;
    return reply;
  });
  const auto client = make_http_client({});
  EXPECT_EQ(client->call(get(server.url())).failure, HttpFailure::kBroken);
  mode = 1;
  EXPECT_EQ(client->call(get(server.url())).failure, HttpFailure::kBroken);
  mode = 2;
  HttpRequest slow = get(server.url());
  slow.stall_timeout = milliseconds(2'000);
  const HttpResponse stalled = client->call(std::move(slow));
  EXPECT_EQ(stalled.failure, HttpFailure::kStalled);
  EXPECT_EQ(stalled.status, 200);
  EXPECT_EQ(stalled.body.size(), 500u);
  slow = get(server.url());
  slow.timeout = milliseconds(200);
  EXPECT_EQ(client->call(std::move(slow)).failure, HttpFailure::kTimeout);
  mode = 3;
  HttpRequest small = get(server.url());
  small.max_body_bytes = 999;
  EXPECT_EQ(client->call(std::move(small)).failure, HttpFailure::kTooLarge);
  EXPECT_EQ(client->call(get("http://127.0.0.1:" + std::to_string(testing::unused_port()))).failure,
            HttpFailure::kConnect);
  EXPECT_EQ(client->call(get("http://no-such-host.invalid")).failure, HttpFailure::kResolve);
  EXPECT_EQ(client->call(get("file:///etc/hostname")).failure, HttpFailure::kOther);
  EXPECT_TRUE(client->call(get(server.url())).ok());
}

TEST(HttpClient, BoundsWhatIsInFlightAndKeepsTheOrder) {
  std::mutex mutex;
  std::vector<std::string> order;
  HttpServer server([&](const SeenRequest& request) {
    const std::lock_guard lock(mutex);
    order.push_back(request.target);
    Reply reply;
    reply.body = "x";
    return reply;
  });
  const auto client = make_http_client({.threads = 1, .max_connections = 1, .max_requests = 1});
  std::vector<std::future<int>> answers;
  std::vector<std::string> expected;
  for (int i = 0; i < 30; ++i) {
    auto promise = std::make_shared<std::promise<int>>();
    answers.push_back(promise->get_future());
    expected.push_back("/" + std::to_string(i));
    client->start(get(server.url() + expected.back()),
                  [promise](HttpResponse&& response) { promise->set_value(response.status); });
  }
  for (auto& answer : answers) EXPECT_EQ(answer.get(), 200);
  EXPECT_EQ(order, expected);
}

TEST(HttpClient, EndsWhatIsInFlightWhenItIsDestroyed) {
  HttpServer server([](const SeenRequest&) {
    Reply reply;
    reply.stall_after = 0;
    reply.body = "x";
    return reply;
  });
  std::atomic<int> cancelled{0};
  auto client = make_http_client({.threads = 2, .max_connections = 4, .max_requests = 4});
  for (int i = 0; i < 10; ++i)
    client->start(get(server.url()),
                  [&](HttpResponse&& response) { cancelled += response.failure == HttpFailure::kCancelled; });
  client.reset();
  EXPECT_EQ(cancelled, 10);
}

TEST(HttpClient, MayBeDestroyedByItsOwnCallback) {
  HttpServer server([](const SeenRequest&) { return Reply{}; });
  std::promise<void> done;
  auto client = make_http_client({});
  HttpClient& reference = *client;
  auto holder = std::make_shared<std::shared_ptr<HttpClient>>(std::move(client));
  reference.start(get(server.url()), [holder, &done](HttpResponse&&) {
    holder->reset();
    done.set_value();
  });
  done.get_future().get();
}

TEST(HttpClient, CallStopsWhenTheInterruptThrows) {
  HttpServer server([](const SeenRequest&) {
    Reply reply;
    reply.first_byte_delay = milliseconds(5'000);
    return reply;
  });
  EXPECT_THROW(make_http_client({})->call(get(server.url()), [] { throw std::runtime_error("stop"); }),
               std::runtime_error);
}

TEST(HttpHeaders, FindsNamesInAnyCase) {
  HttpHeaders headers;
  headers.add("ETag", "\"a\"");
  headers.add_line("content-length:12");
  headers.add("X-Empty", "");
  EXPECT_EQ(headers.find("etag"), "\"a\"");
  EXPECT_EQ(headers.find("Content-Length"), "12");
  EXPECT_EQ(headers.find("x-empty"), "");
  EXPECT_EQ(headers.find("x"), std::nullopt);
}

}  // namespace
}  // namespace alnair
