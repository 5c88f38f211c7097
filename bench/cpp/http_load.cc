// Sends requests at a fixed rate over many connections that stay open, and says how long answers took from the moment that
// each request was due: a server that falls behind is not asked less.
//
//   bench_http_load PORT CONNECTIONS RATE SECONDS FILE
//
// FILE: whole requests, each after a line with its number of bytes and its kind; sent in turn, again and again. Prints one line of
// JSON: of each kind, how many answers of each status came, and how long they took.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Connection {
  int socket = -1;
  bool busy = false;
  Clock::time_point due;
  std::string kind;
  std::string received;
};

struct Request {
  std::string kind;
  std::string text;
};

struct Answers {
  std::vector<double> latencies;  // ms
  std::map<int, int> statuses;
};

std::vector<Request> read_requests(const char* path) {
  std::ifstream file(path);
  std::vector<Request> requests;
  for (std::string line; std::getline(file, line);) {
    requests.push_back({line.substr(line.find(' ') + 1), std::string(std::strtoul(line.c_str(), nullptr, 10), '\0')});
    file.read(requests.back().text.data(), static_cast<std::streamsize>(requests.back().text.size()));
  }
  return requests;
}

int connect_to(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? socket : -1;
}

// Whether a whole answer is there; its status.
int status_of(const std::string& received) {
  const std::size_t end = received.find("\r\n\r\n");
  if (end == std::string::npos) return 0;
  const std::size_t length = received.find("Content-Length: ");
  const std::size_t body = length < end ? std::strtoul(received.c_str() + length + 16, nullptr, 10) : 0;
  return received.size() >= end + 4 + body ? std::atoi(received.c_str() + 9) : 0;
}

double percentile(const std::vector<double>& sorted, double share) {
  return sorted.empty() ? 0 : sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return fmt::print(stderr, "expected PORT CONNECTIONS RATE SECONDS FILE\n"), 2;
  const int port = std::atoi(argv[1]), count = std::atoi(argv[2]);
  const double rate = std::atof(argv[3]), seconds = std::atof(argv[4]);
  const std::vector<Request> requests = read_requests(argv[5]);
  const rlimit files{65'536, 65'536};
  setrlimit(RLIMIT_NOFILE, &files);

  const int poll = epoll_create1(0);
  std::vector<Connection> connections(static_cast<std::size_t>(count));
  std::deque<std::size_t> idle;
  for (std::size_t i = 0; i < connections.size(); ++i) {
    connections[i].socket = connect_to(port);
    if (connections[i].socket < 0) return fmt::print(stderr, "cannot connect: {}\n", i), 1;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].socket, &event);
    idle.push_back(i);
  }

  std::map<std::string, Answers> answers;  // by kind
  std::size_t answered = 0;
  std::deque<Clock::time_point> waiting;  // due, and no connection is free
  const auto start = Clock::now(), end = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::size_t next = 0, sent = 0, lost = 0;
  const auto due = [&](std::size_t n) {
    return start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(static_cast<double>(n) / rate));
  };
  while (answered + lost < sent || due(next) < end) {
    const auto now = Clock::now();
    if (now > end + std::chrono::seconds(10)) break;
    for (; due(next) <= now && due(next) < end; ++next) waiting.push_back(due(next));
    while (!waiting.empty() && !idle.empty()) {
      Connection& connection = connections[idle.front()];
      idle.pop_front();
      connection.due = waiting.front();
      waiting.pop_front();
      connection.busy = true;
      const auto& [kind, request] = requests[sent++ % requests.size()];
      connection.kind = kind;
      if (send(connection.socket, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) ++lost;
    }
    epoll_event events[256];
    const int ready = epoll_wait(poll, events, 256, 1);
    for (int i = 0; i < ready; ++i) {
      Connection& connection = connections[events[i].data.u64];
      char block[65'536];
      const ssize_t got = recv(connection.socket, block, sizeof block, 0);
      if (got <= 0) {
        epoll_ctl(poll, EPOLL_CTL_DEL, connection.socket, nullptr);
        if (connection.busy) ++lost;
        ++answers[connection.kind].statuses[0];
        continue;
      }
      connection.received.append(block, static_cast<std::size_t>(got));
      if (const int status = status_of(connection.received); status != 0) {
        ++answered;
        ++answers[connection.kind].statuses[status];
        answers[connection.kind].latencies.push_back(std::chrono::duration<double, std::milli>(Clock::now() - connection.due).count());
        connection.received.clear();
        connection.busy = false;
        idle.push_back(events[i].data.u64);
      }
    }
  }
  std::vector<std::string> kinds;
  for (auto& [kind, of_kind] : answers) {
    auto& [latencies, statuses] = of_kind;
    std::sort(latencies.begin(), latencies.end());
    std::vector<std::string> by_status;
    for (const auto& [status, times] : statuses) by_status.push_back(fmt::format("\"{}\": {}", status, times));
    kinds.push_back(fmt::format(
        "\"{}\": {{\"requests\": {}, \"per_s\": {:.0f}, \"p50_ms\": {:.2f}, \"p99_ms\": {:.2f}, \"max_ms\": {:.2f}, \"statuses\": {{{}}}}}",
        kind, latencies.size(), static_cast<double>(latencies.size()) / seconds, percentile(latencies, 0.5),
        percentile(latencies, 0.99), percentile(latencies, 1), fmt::join(by_status, ", ")));
  }
  fmt::print("{{{}}}\n", fmt::join(kinds, ", "));
  return 0;
}
