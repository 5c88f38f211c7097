// Real Redis servers for tests: single ones, clusters, and a proxy in front of them. They listen on free ports of
// 127.0.0.1, unless told otherwise, keep everything in memory and a throw-away directory, and are killed with their object, or with this
// process.
//
// Constructors throw std::runtime_error when a server does not start within a minute.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "redis/reply.h"
#include "support/child_process.h"
#include "support/temporary_directory.h"

namespace alnair::testing {

// A port that is free now, below the range that the kernel gives to clients. A server may find it taken all the same.
int server_port();

// Polls until it holds; false after a minute.
bool eventually(const std::function<bool()>& holds);

// A certificate authority and what it signed, as PEM files.
class Certificates {
 public:
  Certificates();
  std::string ca() const { return directory_ / "ca.pem"; }
  std::string certificate() const { return directory_ / "server.pem"; }  // for 127.0.0.1 and localhost
  std::string key() const { return directory_ / "server.key"; }

 private:
  TemporaryDirectory directory_;
};

// The server that ALNAIR_TEST_VALKEY names (tests/run sets it); empty: there is none.
std::string valkey_server();
// Likewise ALNAIR_TEST_ENVOY.
std::string envoy_program();

// Of Ubuntu 22.04, where some tests of what Redis 7 brought have nothing to try.
bool is_redis_6(const std::string& program = "redis-server");

// Where a server runs: its address, and the command that takes it there (support/private_network.h).
struct RedisPlace {
  std::string host = "127.0.0.1";
  std::vector<std::string> enter = {};
};

struct RedisConfig {
  bool cluster = false;
  const Certificates* tls = nullptr;        // a TLS port besides the plain one; it outlives the server
  std::vector<std::string> arguments = {};  // more, as on the command line: {"--maxmemory", "10mb"}
  std::string program = "redis-server";
  RedisPlace place = {};
};

class RedisServer {
 public:
  explicit RedisServer(const RedisConfig& config = {});

  int port() const { return port_; }
  int tls_port() const { return tls_port_; }
  const std::string& host() const { return config_.place.host; }
  std::string address() const { return host() + ":" + std::to_string(port_); }
  std::string url() const { return "redis://" + address(); }
  std::string tls_url() const;  // with tls_ca
  std::string unix_url() const { return "unix:" + socket(); }
  std::string socket() const { return directory_ / "redis.sock"; }

  // One command on a connection of its own, as the user "default" without a password. Throws when there is no reply.
  redis::Reply command(const std::vector<std::string>& arguments) const;
  std::string text(const std::vector<std::string>& arguments) const { return std::string(command(arguments).text()); }

  void kill() { process_->kill(); }
  void freeze() { process_->signal(SIGSTOP); }
  void thaw() { process_->signal(SIGCONT); }
  void start_again();  // on the same ports, with empty memory

 private:
  bool start();

  const RedisConfig config_;
  const bool redis_6_;
  TemporaryDirectory directory_;
  int port_ = 0, tls_port_ = 0, bus_port_ = 0;
  std::optional<ChildProcess> process_;
};

struct ClusterConfig {
  int masters = 3;
  int replicas = 0;  // of each master
  const Certificates* tls = nullptr;
  int node_timeout_ms = 5000;
  std::vector<std::string> arguments = {};
  std::string program = "redis-server";
  std::vector<RedisPlace> places = {};  // one for each server; empty: all are on 127.0.0.1
};

class RedisCluster {
 public:
  explicit RedisCluster(const ClusterConfig& config = {});

  // Masters first, then their replicas.
  RedisServer& server(int index) { return *servers_[static_cast<std::size_t>(index)]; }
  int size() const { return static_cast<int>(servers_.size()); }
  std::string url() const;  // all of them as seeds
  std::string tls_url() const;

  // The index of the server that is the slot's master in the eyes of `seen_by`; -1: nobody.
  int master_of(int slot, int seen_by = 0);
  // Every server that runs says that the cluster is well.
  bool wait_until_well();
  // Moves slots from one master to another while it serves, as redis-cli --cluster reshard does. Throws when that
  // fails.
  void reshard(int from, int to, int slots);
  // Runs `command` on every master.
  void on_masters(const std::vector<std::string>& command);

 private:
  bool is_well(RedisServer& server) const;
  std::vector<std::unique_ptr<RedisServer>> servers_;
  int masters_;
};

// twemproxy or Envoy over some servers.
class RedisProxy {
 public:
  enum class Kind { kTwemproxy, kEnvoy };
  explicit RedisProxy(const std::vector<const RedisServer*>& servers, Kind kind = Kind::kTwemproxy);
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  void kill() { process_->kill(); }

 private:
  // Writes the configuration; the command line.
  std::vector<std::string> twemproxy(const std::vector<const RedisServer*>& servers) const;
  std::vector<std::string> envoy(const std::vector<const RedisServer*>& servers) const;

  TemporaryDirectory directory_;
  int port_ = 0;
  std::optional<ChildProcess> process_;
};

}  // namespace alnair::testing
