#include "support/redis_servers.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "redis/resp_parser.h"
#include "support/python.h"

namespace alnair::testing {
namespace {

constexpr int kAttempts = 20;  // a port that was free may be taken by the time it is used

sockaddr_in address_of(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

// A descriptor that is closed with the scope.
struct Descriptor {
  explicit Descriptor(int value) : fd(value) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  const int fd;
};

redis::Reply call(const std::string& host, int port, const std::vector<std::string>& arguments) {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = 30, .tv_usec = 0};
  setsockopt(socket.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const sockaddr_in address = address_of(host, port);
  if (connect(socket.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error(fmt::format("cannot connect to {}:{}: {}", host, port, std::strerror(errno)));
  std::string request = fmt::format("*{}\r\n", arguments.size());
  for (const std::string& argument : arguments) request += fmt::format("${}\r\n{}\r\n", argument.size(), argument);
  if (send(socket.fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
    throw std::runtime_error("cannot send to Redis");
  redis::RespParser parser;
  redis::Reply reply;
  while (parser.next(reply) != redis::RespParser::Outcome::kReply) {
    const auto room = parser.room();
    const auto place = room[0].empty() ? room[1] : room[0];
    const ssize_t count = recv(socket.fd, place.data(), place.size(), 0);
    if (count <= 0) throw std::runtime_error(fmt::format("no reply of Redis to {}", arguments.front()));
    parser.received(static_cast<std::size_t>(count));
  }
  return reply;
}

std::string checked(const redis::Reply& reply) {
  if (reply.type == redis::Reply::Type::kError) throw std::runtime_error("Redis says " + std::string(reply.text()));
  return std::string(reply.text());
}

}  // namespace

int server_port() {
  static std::mt19937 random{std::random_device{}() ^ static_cast<unsigned>(getpid())};
  while (true) {
    const int port = std::uniform_int_distribution(10'000, 29'999)(random);
    const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = address_of("127.0.0.1", port);
    if (bind(socket.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return port;
  }
}

bool eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

Certificates::Certificates() {
  std::ofstream(directory_ / "names") << "subjectAltName=IP:127.0.0.1,DNS:localhost\n";
  output_of(
      fmt::format("cd {} && exec 2>log && for name in ca server; do openssl ecparam -name prime256v1 -genkey -noout "
                  "-out $name.key; done"
                  " && openssl req -x509 -new -key ca.key -days 2 -subj '/CN=Test authority' -out ca.pem"
                  " && openssl req -new -key server.key -subj /CN=localhost -out server.csr"
                  " && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names"
                  " -out server.pem",
                  directory_.path()));
}

std::string envoy_program() {
  const char* const program = std::getenv("ALNAIR_TEST_ENVOY");
  return program == nullptr ? "" : program;
}

std::string valkey_server() {
  const char* const named = std::getenv("ALNAIR_TEST_VALKEY");
  return named == nullptr || access(named, X_OK) != 0 ? "" : named;
}

// There DEBUG is everybody's, and the port of a cluster's bus cannot be chosen: it is 10,000 above the other.
bool is_redis_6(const std::string& program) { return output_of(program + " --version").find(" v=6.") != std::string::npos; }

RedisServer::RedisServer(const RedisConfig& config) : config_(config), redis_6_(is_redis_6(config.program)) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    port_ = server_port();
    tls_port_ = config_.tls != nullptr ? server_port() : 0;
    bus_port_ = config_.cluster ? server_port() : 0;
    if (start()) return;
  }
  std::ifstream log(directory_ / "log");
  throw std::runtime_error("redis-server does not start: " + std::string(std::istreambuf_iterator<char>(log), {}));
}

// False: it ended, because a port was taken.
bool RedisServer::start() {
  const std::string port = std::to_string(port_), directory = directory_.path();
  std::vector<std::string> arguments = config_.place.enter;
  arguments.insert(arguments.end(), {config_.program,
                                     "--port",
                                     port,
                                     "--bind",
                                     host(),
                                     "--protected-mode",
                                     "no",
                                     "--dir",
                                     directory,
                                     "--unixsocket",
                                     socket(),
                                     "--save",
                                     "",
                                     "--appendonly",
                                     "no",
                                     "--loglevel",
                                     "warning",
                                     "--repl-diskless-sync-delay",
                                     "0"});
  const auto add = [&](const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
  };
  if (!redis_6_) add({"--enable-debug-command", "yes"});
  if (config_.cluster)
    add({"--cluster-enabled", "yes", "--cluster-config-file", fmt::format("nodes-{}.conf", port_)});
  if (config_.cluster && !redis_6_) add({"--cluster-port", std::to_string(bus_port_)});
  if (config_.tls != nullptr)
    add({"--tls-port", std::to_string(tls_port_), "--tls-cert-file", config_.tls->certificate(), "--tls-key-file",
         config_.tls->key(), "--tls-ca-cert-file", config_.tls->ca(), "--tls-auth-clients", "no"});
  if (config_.tls != nullptr && config_.cluster) add({"--tls-cluster", "yes", "--tls-replication", "yes"});
  add(config_.arguments);
  process_.emplace(arguments, std::vector<std::pair<std::string, std::string>>{}, directory_ / "log");
  bool ended = false;
  const bool answers = eventually([&] {
    try {
      return (ended = !process_->running()) ||
             checked(command({"INFO", "server"})).find("redis_version") != std::string::npos;
    } catch (const std::runtime_error&) {
      return false;
    }
  });
  if (!answers) throw std::runtime_error("redis-server does not answer");
  // Someone else's server may have the port: ours would have ended.
  return !ended && command({"CONFIG", "GET", "dir"}).elements.at(1).text() == directory_.path();
}

void RedisServer::start_again() {
  process_->kill();
  if (!start()) throw std::runtime_error("redis-server does not start again");
}

redis::Reply RedisServer::command(const std::vector<std::string>& arguments) const {
  return call(host(), port_, arguments);
}

std::string RedisServer::tls_url() const {
  return fmt::format("rediss://127.0.0.1:{}?tls_ca={}", tls_port_, config_.tls->ca());
}

RedisCluster::RedisCluster(const ClusterConfig& config) : masters_(config.masters) {
  RedisConfig each{.cluster = true, .tls = config.tls, .arguments = config.arguments, .program = config.program};
  each.arguments.insert(each.arguments.end(), {"--cluster-node-timeout", std::to_string(config.node_timeout_ms)});
  for (int i = 0; i < config.masters * (1 + config.replicas); ++i) {
    if (!config.places.empty()) each.place = config.places.at(static_cast<std::size_t>(i));
    servers_.push_back(std::make_unique<RedisServer>(each));
  }

  const auto bus = [&](int index) {
    const std::string line = server(index).text({"CLUSTER", "NODES"});  // "id 127.0.0.1:port@bus ..."
    return line.substr(line.find('@') + 1, line.find_first_of(" ,", line.find('@')) - line.find('@') - 1);
  };
  for (int i = 0; i < config.masters; ++i) {
    const int first = 16384 * i / config.masters, last = 16384 * (i + 1) / config.masters - 1;
    std::vector<std::string> slots = {"CLUSTER", "ADDSLOTS"};  // Redis 6 has no ADDSLOTSRANGE
    for (int slot = first; slot <= last; ++slot) slots.push_back(std::to_string(slot));
    checked(server(i).command(slots));
  }
  for (int i = 0; i < size(); ++i) checked(server(i).command({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)}));
  for (int i = 1; i < size(); ++i)
    checked(server(0).command({"CLUSTER", "MEET", server(i).host(), std::to_string(server(i).port()), bus(i)}));
  for (int i = config.masters; i < size(); ++i) {
    const std::string master = server(i % config.masters).text({"CLUSTER", "MYID"});
    if (!eventually(
            [&] { return server(i).command({"CLUSTER", "REPLICATE", master}).type != redis::Reply::Type::kError; }))
      throw std::runtime_error("a replica does not learn of its master");
  }
  if (!wait_until_well()) throw std::runtime_error("the cluster does not come together");
}

bool RedisCluster::is_well(RedisServer& server) const {
  const std::string info = checked(server.command({"CLUSTER", "INFO"})), nodes = checked(server.command({"CLUSTER", "NODES"}));
  // Two servers that met twice keep a second, nameless entry of each other for some seconds: it does not matter.
  std::istringstream lines(nodes);
  std::size_t known = 0;
  for (std::string line; std::getline(lines, line);) known += line.find("handshake") == std::string::npos;
  return info.find("cluster_state:ok") != std::string::npos && known == servers_.size() &&
         info.find("cluster_slots_ok:16384\r") != std::string::npos;
}

bool RedisCluster::wait_until_well() {
  return eventually([&] {
    return std::all_of(servers_.begin(), servers_.end(), [&](const auto& server) {
      try {
        // A replica is well once it has its master's data.
        return is_well(*server) &&
               server->text({"INFO", "replication"}).find("master_link_status:down") == std::string::npos;
      } catch (const std::runtime_error&) {
        return true;  // it does not run
      }
    });
  });
}

std::string RedisCluster::url() const {
  std::vector<std::string> addresses;
  for (const auto& server : servers_) addresses.push_back(server->address());
  return fmt::format("redis://{}", fmt::join(addresses, ","));
}

std::string RedisCluster::tls_url() const { return servers_.front()->tls_url(); }

int RedisCluster::master_of(int slot, int seen_by) {
  for (const redis::Reply& range : server(seen_by).command({"CLUSTER", "SLOTS"}).elements) {
    if (range.elements[0].integer > slot || range.elements[1].integer < slot) continue;
    for (int i = 0; i < size(); ++i)
      if (server(i).port() == range.elements[2].elements[1].integer) return i;
  }
  return -1;
}

void RedisCluster::reshard(int from, int to, int slots) {
  const std::string command = fmt::format(
      "redis-cli --cluster reshard {} --cluster-from {} --cluster-to {} --cluster-slots {} --cluster-yes "
      "--cluster-pipeline 10 2>&1",
      server(from).address(), server(from).text({"CLUSTER", "MYID"}), server(to).text({"CLUSTER", "MYID"}), slots);
  std::string problem;
  const bool done = eventually([&] {  // it begins only when all nodes agree
    try {
      output_of(command);
      return true;
    } catch (const std::runtime_error& error) {
      problem = error.what();
      return false;
    }
  });
  if (!done) throw std::runtime_error(problem);
}

void RedisCluster::on_masters(const std::vector<std::string>& command) {
  for (int i = 0; i < masters_; ++i) checked(server(i).command(command));
}

std::vector<std::string> RedisProxy::twemproxy(const std::vector<const RedisServer*>& servers) const {
  std::ofstream config(directory_ / "proxy.yml", std::ios::trunc);
  config << fmt::format(
      "pool:\n  listen: 127.0.0.1:{}\n  redis: true\n  hash: fnv1a_64\n"
      "  distribution: ketama\n  timeout: 5000\n  servers:\n",
      port_);
  for (const RedisServer* server : servers) config << fmt::format("   - {}:1\n", server->address());
  return {"nutcracker", "-c", directory_ / "proxy.yml", "-a", "127.0.0.1", "-s", std::to_string(server_port()), "-p",
          directory_ / "pid"};
}

std::vector<std::string> RedisProxy::envoy(const std::vector<const RedisServer*>& servers) const {
  std::ofstream config(directory_ / "envoy.yaml", std::ios::trunc);
  const auto address = [](int port) { return fmt::format("{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}", port); };
  config << fmt::format(R"(static_resources:
  listeners:
  - address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: {{op_timeout: 5s}}
          prefix_routes: {{catch_all_route: {{cluster: redis}}}}
  clusters:
  - name: redis
    connect_timeout: 1s
    type: STATIC
    lb_policy: RING_HASH
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
)",
                        address(port_));
  for (const RedisServer* server : servers) config << fmt::format("        - endpoint: {{address: {}}}\n", address(server->port()));
  return {envoy_program(), "-c", directory_ / "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "error"};
}

RedisProxy::RedisProxy(const std::vector<const RedisServer*>& servers, Kind kind) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    port_ = server_port();
    process_.emplace(kind == Kind::kEnvoy ? envoy(servers) : twemproxy(servers));
    bool ended = false;
    eventually([&] {
      try {
        ended = !process_->running();
        return ended || call("127.0.0.1", port_, {"GET", "x"}).is_nil();
      } catch (const std::runtime_error&) {
        return false;
      }
    });
    if (!ended) return;
  }
  throw std::runtime_error("the proxy does not start");
}

}  // namespace alnair::testing
