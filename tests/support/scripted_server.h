// A TCP server that says what a test tells it to, on a free port of 127.0.0.1: what scripted_redis.h and
// scripted_mongo.h are made of.
//
// Thread safety: the handler is called from one thread a connection.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace alnair::testing {

class ScriptedServer {
 public:
  // Takes a whole message from the front of `bytes`. Returns what to send; empty: close the connection; nullopt: the
  // message is not whole yet.
  using Handler = std::function<std::optional<std::string>(std::string& bytes)>;

  explicit ScriptedServer(Handler handler);
  ~ScriptedServer();

  int port() const { return port_; }

 private:
  void serve(int connection);

  const Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<int> connections_;      // guarded by mutex_
  std::vector<std::thread> threads_;  // guarded by mutex_
  bool stopping_ = false;             // guarded by mutex_
  std::thread accepter_;
};

}  // namespace alnair::testing
