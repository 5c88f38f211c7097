// A server that says what a test tells it to, for what a real Redis will not say on demand: garbage, half a reply,
// versions of long ago.
//
// Thread safety: the handler is called from one thread a connection.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "support/scripted_server.h"

namespace alnair::testing {

class ScriptedRedis {
 public:
  // Gets a command's arguments; what it returns is sent as it is. An empty reply closes the connection.
  using Handler = std::function<std::string(const std::vector<std::string>& arguments)>;

  explicit ScriptedRedis(Handler handler);

  int port() const { return server_.port(); }
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(port()); }

  // What a server in cluster mode says to HELLO, and to CLUSTER SLOTS when all slots are its own.
  static std::string hello(const std::string& mode = "standalone", const std::string& version = "6.2.0");
  std::string all_slots() const;

 private:
  ScriptedServer server_;
};

}  // namespace alnair::testing
