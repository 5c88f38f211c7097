// A TCP proxy on 127.0.0.1 that holds back the first byte of each answer of a keep-alive HTTP server, and may answer some requests with
// 503 itself:
//
//   bench_delaying_proxy PORT SERVER_PORT SECONDS [P99_SECONDS SHARE_OF_503]
//
// With P99_SECONDS delays are drawn from the log-normal distribution of that median and 99th percentile. A connection carries one
// request at a time (no pipelining), so the first bytes after bytes from the client are an answer's. One thread; ends at SIGTERM.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRoom = 1 << 20;  // bytes of an answer that the kernel may hold on each side: it comes, and goes, at one go

constexpr std::string_view kBody = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

struct Connection {
  int client = -1, server = -1;
  bool fresh = true;    // the server's next bytes begin an answer
  std::string waiting;  // for the client to take
  bool full = false;    // something waits: the server is not read
};

class Proxy {
 public:
  Proxy(int port, int server_port, double median, double p99, double refused)
      : server_port_(server_port), delay_(std::log(median), p99 > median ? std::log(p99 / median) / 2.326 : 0), refused_(refused) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const sockaddr_in address = local(port);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener_, 1024) != 0) {
      fmt::print(stderr, "port {}: {}\n", port, std::strerror(errno));
      std::exit(1);
    }
    watch(listener_, EPOLLIN);
    watch(timer_, EPOLLIN);
  }

  void run() {
    std::array<epoll_event, 256> events;
    while (true) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == listener_) {
          accept_one();
        } else if (fd == timer_) {
          run_what_is_due();
        } else if (const auto it = connections_.find(fd); it != connections_.end()) {
          const std::shared_ptr<Connection> connection = it->second;
          const bool lives = fd == connection->client ? on_client(connection, events[static_cast<std::size_t>(i)].events) : on_server(connection);
          if (!lives) end(connection);
        }
      }
    }
  }

 private:
  using Shared = std::shared_ptr<Connection>;

  static sockaddr_in local(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void watch(int fd, std::uint32_t what, int operation = EPOLL_CTL_ADD) {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd;
    epoll_ctl(epoll_, operation, fd, &event);
  }

  void accept_one() {
    auto connection = std::make_shared<Connection>();
    connection->client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection->client < 0) return;
    connection->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = local(server_port_);
    if (connect(connection->server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      close(connection->client);
      close(connection->server);
      return;
    }
    const int yes = 1;
    for (const int fd : {connection->client, connection->server}) {
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      setsockopt(fd, SOL_SOCKET, fd == connection->server ? SO_RCVBUF : SO_SNDBUF, &kRoom, sizeof kRoom);
      connections_[fd] = connection;
      watch(fd, EPOLLIN);
    }
  }

  // Requests are short: they fit the server's socket buffer.
  bool on_client(const Shared& connection, std::uint32_t what) {
    if ((what & EPOLLOUT) != 0 && !drain(connection)) return false;
    if ((what & ~EPOLLOUT) == 0) return true;
    const ssize_t got = recv(connection->client, buffer_.data(), buffer_.size(), 0);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) return false;
    const std::string_view request(buffer_.data(), static_cast<std::size_t>(got));
    const bool head = request.starts_with("HEAD ");
    if (refused_ > 0 && (head || request.starts_with("GET ")) && request.ends_with("\r\n\r\n") &&
        std::uniform_real_distribution<double>()(random_) < refused_) {
      after_delay([this, connection, head] {
        connection->waiting = fmt::format("HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{}",
                                          kBody.size(), head ? "" : kBody);
        if (!drain(connection)) end(connection);
      });
      return true;
    }
    connection->fresh = true;
    return send(connection->server, request.data(), request.size(), MSG_NOSIGNAL) == got;
  }

  bool on_server(const Shared& connection) {
    if (!connection->fresh) return pass_on(connection);
    connection->fresh = false;
    watch(connection->server, 0, EPOLL_CTL_MOD);  // what comes meanwhile stays in the kernel
    after_delay([this, connection] {
      if (connection->server < 0) return;
      watch(connection->server, EPOLLIN, EPOLL_CTL_MOD);
      if (!pass_on(connection)) end(connection);
    });
    return true;
  }

  bool pass_on(const Shared& connection) {
    const ssize_t got = recv(connection->server, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    return got > 0 && give(connection, {buffer_.data(), static_cast<std::size_t>(got)});
  }

  bool drain(const Shared& connection) { return give(connection, std::exchange(connection->waiting, {})); }

  // While the client does not take what waits, the server is not read.
  bool give(const Shared& connection, std::string_view bytes) {
    const ssize_t sent = send(connection->client, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return false;
    connection->waiting = bytes.substr(sent > 0 ? static_cast<std::size_t>(sent) : 0);
    if (const bool full = !connection->waiting.empty(); full != connection->full) {
      connection->full = full;
      watch(connection->client, full ? EPOLLIN | EPOLLOUT : std::uint32_t{EPOLLIN}, EPOLL_CTL_MOD);
      watch(connection->server, full ? 0 : std::uint32_t{EPOLLIN}, EPOLL_CTL_MOD);
    }
    return true;
  }

  void end(const Shared& connection) {
    for (const int fd : {connection->client, connection->server}) {
      if (connections_.erase(fd) > 0) close(fd);
    }
    connection->client = connection->server = -1;
  }

  void after_delay(std::function<void()> task) {
    const auto due = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(delay_(random_)));
    tasks_.emplace(due, std::move(task));
    set_timer();
  }

  void run_what_is_due() {
    std::uint64_t ignored;
    [[maybe_unused]] const auto got = read(timer_, &ignored, sizeof ignored);
    if (!tasks_.empty() && tasks_.begin()->first <= Clock::now()) {  // one: others' requests are passed on in between
      const auto task = std::move(tasks_.extract(tasks_.begin()).mapped());
      task();
    }
    set_timer();
  }

  void set_timer() {
    if (tasks_.empty()) return;
    const auto due = std::chrono::duration_cast<std::chrono::nanoseconds>(tasks_.begin()->first.time_since_epoch()).count();
    itimerspec spec{};
    spec.it_value = {due / 1'000'000'000, due % 1'000'000'000};
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &spec, nullptr);
  }

  const int server_port_;
  std::lognormal_distribution<double> delay_;  // seconds
  const double refused_;
  std::mt19937 random_{std::random_device{}()};
  int listener_ = -1;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  const int timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  std::map<int, Shared> connections_;  // by both of their sockets
  std::multimap<Clock::time_point, std::function<void()>> tasks_;
  std::vector<char> buffer_ = std::vector<char>(256 << 10);
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 6) {
    fmt::print(stderr, "usage: bench_delaying_proxy PORT SERVER_PORT SECONDS [P99_SECONDS SHARE_OF_503]\n");
    return 2;
  }
  const double median = std::atof(argv[3]);
  Proxy(std::atoi(argv[1]), std::atoi(argv[2]), median, argc > 4 ? std::atof(argv[4]) : median, argc > 5 ? std::atof(argv[5]) : 0).run();
}
