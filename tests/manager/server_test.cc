#include "manager/http/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "alnair/core/error.h"
#include "core/file.h"
#include "http/client.h"

namespace alnair::manager {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Response echo(const Request& request) {
  Response response;
  response.content_type = "text/plain";
  response.body = request.method;
  for (const auto& segment : request.path) response.body += " " + segment;
  response.body += " " + request.token + " " + request.body;
  return response;
}

// A connection of its own, on which the test sends what it likes.
class Raw {
 public:
  explicit Raw(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval patience{60, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  bool send(const std::string& text) {
    return ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  // What arrives until `end` or until the server closes.
  std::string receive(const std::string& end = "") {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (end.empty() || text.find(end) == std::string::npos) &&
                    (n = ::recv(socket_.get(), buffer, sizeof buffer, 0)) > 0;)
      text.append(buffer, static_cast<std::size_t>(n));
    return text;
  }

 private:
  FileDescriptor socket_;
};

class ServerTest : public ::testing::Test {
 protected:
  std::unique_ptr<Server> start(Handler handler = echo) { return Server::start(options_, std::move(handler)); }
  HttpResponse get(const Server& server, const std::string& target, const std::string& body = "") {
    HttpRequest request;
    request.method = body.empty() ? HttpMethod::kGet : HttpMethod::kPost;
    request.url = "http://127.0.0.1:" + std::to_string(server.port()) + target;
    request.body = body;
    request.headers.add("Authorization", "Bearer sesame");
    request.use_proxy = false;
    return client_->call(std::move(request));
  }
  ServerOptions options_;
  std::shared_ptr<HttpClient> client_ = make_http_client({});
};

TEST_F(ServerTest, HandsOverWhatWasSent) {
  const auto server = start();
  EXPECT_EQ(get(*server, "/v1/jobs/a%20b?x=1", "body").body.text(), "POST v1 jobs a b sesame body");
  const HttpResponse response = get(*server, "/v1");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body.text(), "GET v1 sesame ");
  EXPECT_TRUE(response.headers.find("X-Request-Id").has_value());
}

TEST_F(ServerTest, MalformedTargetsAndLargeBodiesAreProblems) {
  options_.max_body_bytes = 2000;
  const auto server = start();
  EXPECT_EQ(get(*server, "/v1/%zz").status, 400);
  EXPECT_THAT(std::string(get(*server, "/a/../b").body.text()), HasSubstr("malformed-target"));
  EXPECT_EQ(get(*server, "/v1", std::string(2000, 'x')).status, 200);
  const HttpResponse large = get(*server, "/v1", std::string(2001, 'x'));
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(large.headers.find("Content-Type"), "application/problem+json");
  Raw huge(server->port());  // is answered before it is sent
  huge.send("POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n");
  EXPECT_THAT(huge.receive("\r\n\r\n"), StartsWith("HTTP/1.1 4"));
  Raw long_body(server->port());
  long_body.send("POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
  EXPECT_THAT(long_body.receive("body-too-large"), StartsWith("HTTP/1.1 413"));
  // Without a length the body is counted as it comes.
  Raw raw(server->port());
  raw.send("POST /v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; ++i) raw.send("3e8\r\n" + std::string(1000, 'x') + "\r\n");
  raw.send("0\r\n\r\n");
  EXPECT_THAT(raw.receive("body-too-large"), StartsWith("HTTP/1.1 413"));
}

TEST_F(ServerTest, WhatCouldHideASecondRequestIsRefusedAndItsConnectionClosed) {
  const auto server = start();
  for (const char* headers : {"Content-Length: 2\r\nContent-Length: 50", "Content-Length: 4\r\nTransfer-Encoding: chunked",
                              "Host: y\r\nContent-Length: 2"}) {
    Raw raw(server->port());
    raw.send(std::string("POST /v1 HTTP/1.1\r\nHost: x\r\n") + headers + "\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string answer = raw.receive();
    EXPECT_THAT(answer, ::testing::AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("ambiguous-request"))) << headers;
    EXPECT_THAT(answer, ::testing::Not(HasSubstr("hidden"))) << headers;
  }
}

TEST_F(ServerTest, LargeHeadersAreRefused) {
  options_.max_header_bytes = 8192;
  const auto server = start();
  Raw raw(server->port());
  raw.send("GET /v1 HTTP/1.1\r\nHost: x\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n");
  Raw large(server->port());
  large.send("GET /v1 HTTP/1.1\r\nHost: x\r\nX: " + std::string(10'000, 'x') + "\r\n\r\n");
  EXPECT_THAT(large.receive("header-too-large"), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(raw.receive(), ::testing::AnyOf(StartsWith("HTTP/1.1 4"), StartsWith("HTTP/1.0 4"), ""));
  EXPECT_EQ(get(*server, "/v1").status, 200);
}

TEST_F(ServerTest, IdleConnectionsHoldNoThread) {
  options_.workers = 1;
  const auto server = start();
  std::vector<Raw> idle, halves;
  for (int i = 0; i < 100; ++i) {
    idle.emplace_back(server->port());
    halves.emplace_back(server->port()).send("POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  }
  EXPECT_EQ(get(*server, "/v1").status, 200);
  EXPECT_GE(server->connections(), 200u);
}

TEST_F(ServerTest, ARequestThatDribblesInIsCutThoughEachByteComesInTime) {
  options_.request_timeout = 1s;
  options_.idle_timeout = 600s;
  const auto server = start();
  Raw slow(server->port());
  slow.send("POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (server->connections() == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
  ASSERT_EQ(server->connections(), 1u);
  while (server->connections() > 0 && std::chrono::steady_clock::now() < deadline) {
    slow.send("x");
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_EQ(server->connections(), 0u);
}

TEST_F(ServerTest, AnIdleConnectionIsClosed) {
  options_.idle_timeout = 1s;
  const auto server = start();
  EXPECT_EQ(Raw(server->port()).receive(), "");
}

// Holds requests until it is opened.
class Gate {
 public:
  Response pass(const Request& request) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    return echo(request);
  }
  void await(int requests) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= requests; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

TEST_F(ServerTest, RequestsBeyondTheQueueAreTurnedAway) {
  options_.workers = 1;
  options_.max_queue = 1;
  Gate gate;
  const auto server = start([&](const Request& request) { return gate.pass(request); });
  std::vector<Raw> clients;
  const std::string request = "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n";
  clients.emplace_back(server->port()).send(request);
  gate.await(1);
  // One of the others waits in the queue; whoever comes after it is refused while the worker is held.
  std::thread refused([&] {
    for (int i = 0; i < 2; ++i) clients.emplace_back(server->port()).send(request);
  });
  refused.join();
  std::vector<std::string> answers(2);
  std::thread first([&] { answers[0] = clients[1].receive("\r\n\r\n"); });
  std::thread second([&] { answers[1] = clients[2].receive("\r\n\r\n"); });
  // A further client sees 503 for sure: by then both have been seen, or it fills the queue itself.
  HttpResponse busy;
  for (int i = 0; i < 100 && busy.status != 503; ++i) {
    HttpRequest probe;
    probe.url = "http://127.0.0.1:" + std::to_string(server->port()) + "/v1";
    probe.use_proxy = false;
    probe.timeout = 1000ms;
    busy = client_->call(std::move(probe));
  }
  EXPECT_EQ(busy.status, 503);
  EXPECT_THAT(std::string(busy.body.text()), HasSubstr("/problems/busy"));
  gate.open();
  first.join();
  second.join();
  for (const std::string& answer : answers) EXPECT_THAT(answer, StartsWith("HTTP/1.1 "));
}

TEST_F(ServerTest, StoppingAnswersWhatHasArrived) {
  Gate gate;
  const auto server = start([&](const Request& request) { return gate.pass(request); });
  Raw client(server->port()), idle(server->port());
  client.send("GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n");
  gate.await(1);
  std::thread stopping([&] { server->stop(60s); });
  gate.open();
  const std::string answer = client.receive();
  stopping.join();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("GET v1"));
  EXPECT_EQ(idle.receive(), "");
}

TEST_F(ServerTest, AnAddressInUseIsNamed) {
  const auto server = start();
  options_.port = server->port();
  try {
    start();
    FAIL() << "two servers on one port";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("cannot listen on 127.0.0.1 port " + std::to_string(server->port())));
  }
  options_.address = "localhost";
  EXPECT_THROW(start(), ConfigError);
}

}  // namespace
}  // namespace alnair::manager
