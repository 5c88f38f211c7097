// Who may use the manager: clients with passwords and S3 credentials, and their sessions.
//
// Thread-safe. Methods block on the records; they throw Problem for what the caller did wrong, CacheError for the
// records.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <vector>

#include "alnair/source/s3_source.h"
#include "manager/identity/crypto.h"
#include "manager/identity/throttle.h"
#include "manager/records/records.h"

namespace alnair::manager {

using Clock = std::function<std::chrono::steady_clock::time_point()>;

// What a client reads S3 with.
struct S3Auth {
  S3Credentials credentials;
  std::string region;        // empty: found out
  std::string endpoint_url;  // empty: AWS
};

struct ClientInfo {
  std::string name;
  std::string domain;
  bool enabled = true;
  bool has_s3_auth = false;
  std::int64_t created_ms = 0;
  std::uint64_t sessions = 0;
  Quota quota;
};

class Clients {
 public:
  struct Options {
    bool create = false;                     // whoever connects first makes a client
    std::chrono::seconds session_life{600};  // without a request
    std::size_t max_clients = 10'000;
    std::size_t max_sessions = 10'000;  // of one client; the one that was used longest ago ends
  };
  Clients(Records& records, Sealer sealer, Options options, Clock clock);

  // Checks the password and keeps `auth`, if given, in place of what was known. Returns a session's token.
  // Problems: 401 wrong name or password, 422 too short a password for a client that is made, 403 disabled, 429 too
  // many failures or clients, 503 too many at once.
  std::string connect(const std::string& name, const std::string& password, const std::optional<S3Auth>& auth,
                      const std::string& peer);
  void disconnect(const std::string& token);

  // The client of a session, whose life starts again; nullopt: none, ended or expired.
  std::optional<std::string> client_of(const std::string& token);

  // Problems: 404 unknown; 422 no S3 credentials, or none that this manager's key opens.
  S3Auth s3_auth(const std::string& name) const;

  // Problems: 409 it exists, 422 too short a password, 429 too many.
  void add(const std::string& name, const std::string& password, const std::string& domain);
  // Of what is set, changes it; ends the client's sessions when its password changes or it is disabled. Problems: 404,
  // 422.
  void change(const std::string& name, const std::optional<std::string>& password, const std::optional<bool>& enabled,
              const std::optional<Quota>& quota = {});
  void remove(const std::string& name);  // Problem: 404
  bool knows(const std::string& name) const;
  std::vector<ClientInfo> list() const;
  std::string domain_of(const std::string& name) const;
  Quota quota_of(const std::string& name) const;  // of one that is unknown: none

  void sweep();  // ends sessions that have expired
  std::chrono::seconds session_life() const { return options_.session_life; }

  // Seals every client's S3 credentials again, under `fresh`. Returns how many; throws Error, having changed nothing,
  // if one does not open.
  std::size_t reseal(const Sealer& fresh);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Session {
    std::string client;
    Time expires;
  };
  class Hashing;
  void end_sessions(const std::string& name);
  bool check(const std::string& password, const std::string& hash);

  Records& records_;
  Sealer sealer_;
  const Options options_;
  const Clock clock_;
  const std::string no_ones_password_;  // hashed: an unknown name costs as much time as a wrong password
  Throttle by_client_{4, std::chrono::seconds(60), 10'000};  // a name from one address
  Throttle by_peer_{32, std::chrono::seconds(60), 10'000};   // an address
  std::counting_semaphore<> hashing_{2};                     // workers that may hash at once: others serve meanwhile
  std::mutex writing_;  // held while records change, so that they change in the order of memory
  mutable std::mutex mutex_;
  std::map<std::string, ClientRecord> clients_;
  std::map<std::string, Session> sessions_;  // by hash
};

}  // namespace alnair::manager
