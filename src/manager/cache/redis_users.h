// The users in Redis by which jobs reach their domain's keys, and nothing else: one a job, on every node.
//
// Servers do not pass users on to each other, and forget them when they start. So reconcile(), called every few
// seconds, looks at each node that has started since, and now and then at all (a list of ten thousand users takes a
// server some milliseconds), for users that are missing there, and for those of jobs that are no more.
//
// Thread-safe; methods wait for Redis, for a second or two a node that does not answer.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "redis/client.h"

namespace alnair::manager {

class RedisUsers {
 public:
  struct User {
    std::vector<std::string> password_hashes;  // SHA-256, in hex: each of them lets in
    std::string domain;                        // as it is in keys (name_in_tiers)
    bool read_only = false;
  };
  // `client` is the manager's own, whose user may run ACL and CLUSTER NODES.
  explicit RedisUsers(std::shared_ptr<redis::Client> client);

  std::string name_of(const std::string& job) const;

  // Throws AccessError where a server forbids ACL. Servers that do not answer pass.
  void check();

  // Makes the user on all nodes that answer, or makes it anew; reconcile() does the rest. Throws AccessError where the servers forbid it.
  void add(const std::string& job, const User& user);
  // Of jobs that were there before the manager started: reconcile() makes what is missing.
  void know(const std::string& job, const User& user);
  // reconcile() makes the user anew.
  void change(const std::string& job, const User& user);
  void remove(const std::string& job);

  void reconcile();  // throws as add()

 private:
  using Clock = std::chrono::steady_clock;
  // The last one at all users of a node.
  struct Look {
    std::string run;  // which of the server's runs it was
    Clock::time_point at{};
  };
  std::vector<std::shared_ptr<redis::Client>> nodes();
  bool look_at(redis::Client& node);  // false: it has not answered
  bool is_due(const redis::Address& address, const std::string& run) const;
  void create(redis::Client& node, const std::string& name, const User& user);
  void say(const std::string& problem);

  const std::shared_ptr<redis::Client> client_;
  const std::string prefix_;  // of all users of this manager
  mutable std::mutex mutex_;
  std::map<std::string, User> users_;                              // by name
  std::map<redis::Address, Look> looks_;
  std::set<std::pair<redis::Address, std::string>> outdated_;      // users that a node has not been told of
  std::map<redis::Address, std::shared_ptr<redis::Client>> nodes_;  // one client a node, each of a single server
  std::string said_;                                               // the last problem, which is said once
};

// The arguments of ACL SETUSER that let a user do in the keys below `prefix` what the library needs, and nothing else. Pure.
std::vector<std::string> rights_of_a_job(const std::string& prefix, const std::vector<std::string>& password_hashes, bool read_only);

}  // namespace alnair::manager
