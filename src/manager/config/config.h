// manager.conf: what it may contain, with defaults; every key has a twin in the environment, which comes first.
//
//   [manager] port  ->  ALNAIR_MANAGER_PORT        [limits] max_body  ->  ALNAIR_MANAGER_LIMITS_MAX_BODY
//
// Unknown sections, keys and variables are errors that suggest the nearest name. Messages quote no secret.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alnair::manager {

struct Config {
  // [manager]
  std::string bind = "127.0.0.1";
  std::uint16_t port = 50051;        // 0: a free one, which the log names
  bool insecure_bind = false;        // listen beyond loopback without TLS: passwords and tokens travel in the clear
  std::string state_dir;             // catalog, admin token, seal key; default: see default_state_dir()
  std::string seal_key_file;         // default: state_dir/seal.key, made when missing
  std::string seal_key;              // 64 hex digits; from the environment only
  bool create_clients = false;       // a client that connects for the first time is made, with its password
  std::uint64_t token_life = 600;    // seconds without a heartbeat after which a job's token is void
  std::uint64_t session_life = 600;  // seconds without a request after which a session's is
  std::uint64_t grace = 600;         // seconds after that until the job is deregistered
  std::string backup_dir;            // the directory that all nodes share; empty: none
  std::string backup_mode = "0700";  // of what is made in it: 0700, or 2770 to share it with a group
  bool enable_proxy = false;         // jobs reach Redis through [redis_proxy]
  std::uint64_t flush_frequency = 0; // minutes between looks at what Redis may have to evict; 0: 5 seconds
  std::string flush_policy = "recency";  // what Redis evicts first: recency, frequency, next_use; jobs are told
  std::uint64_t flush_amount = 0;    // bytes that are written to backup_dir each time; 0: the library's 8 GiB
  std::uint64_t shutdown = 20;       // seconds that SIGTERM may take
  std::string log_format = "text";   // text, json
  bool standby = false;              // where another manager has the records: wait for its end
  // [redis]
  std::string redis_url;         // as the manager reaches the servers; empty: there is no Redis
  std::string redis_shared_url;  // what all jobs get, where the servers forbid ACL: no isolation
  // [redis_proxy]
  std::string redis_proxy_host;
  std::uint16_t redis_proxy_port = 6379;
  // [tls]
  std::string tls_certificate;  // PEM; empty: no TLS
  std::string tls_key;
  std::string tls_client_ca;  // whose certificates clients must have; empty: none are wanted
  // [mongodb]
  std::string mongodb_uri;           // empty: SQLite in state_dir
  std::uint64_t mongodb_lease = 20;  // seconds without a sign of life after which another manager may take over
  // [limits]
  std::uint64_t max_body = 1 << 20;     // bytes of a request's body
  std::uint64_t max_header = 16 << 10;  // bytes of a request's line and headers
  std::uint64_t max_connections = 16'000;
  std::uint64_t request_timeout = 20;  // seconds in which a request must arrive
  std::uint64_t idle_timeout = 75;     // seconds without a byte after which a connection is closed
  std::uint64_t max_clients = 10'000;
  std::uint64_t max_jobs = 100'000;
  std::uint64_t max_jobs_per_client = 10'000;
  std::uint64_t listings = 4;  // datasets that are listed at once
  std::uint64_t copies = 2;    // datasets that are copied at once
};

// Reads `path` (empty: no file) and the environment (name to value). Throws ConfigError.
Config load_config(const std::string& path, const std::map<std::string, std::string>& environment);

// The same, of a file's text.
Config parse_config(std::string_view text, const std::string& path,
                    const std::map<std::string, std::string>& environment);

// The process's variables that begin with ALNAIR_MANAGER_.
std::map<std::string, std::string> manager_environment();

inline std::uint32_t directory_mode(const Config& config) { return config.backup_mode == "2770" ? 02770 : 0700; }

struct ConfigValue {
  std::string section;
  std::string key;
  std::string value;  // "(hidden)" for secrets that are set
};
std::vector<ConfigValue> config_values(const Config& config);

}  // namespace alnair::manager
