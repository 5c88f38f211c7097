// An HTTP server of a test's own, on a free port of 127.0.0.1, which misbehaves as told: it answers late,
// stalls, cuts bodies short, resets connections. One thread a connection; everything stops with the object.
//
// Thread safety: the handler is called from many threads at once.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace alnair::testing {

struct SeenRequest {
  std::string method;
  std::string target;                          // as sent: path and query, encoded
  std::string path;                            // encoded, without the query
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  int connection = 0;  // counts connections from 1

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

struct Reply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  // Faults.
  std::chrono::milliseconds first_byte_delay{0};
  std::optional<std::size_t> stall_after;  // sends so many body bytes, then nothing more
  std::optional<std::size_t> cut_after;    // sends so many body bytes, then closes the connection
  bool reset = false;                      // closes with RST, instead of an answer
  bool close = false;                      // closes after the answer ("Connection: close" is not said)
  std::optional<std::uint64_t> announce;   // Content-Length, if it is to differ from the body
  bool chunked = false;                    // Transfer-Encoding: chunked, no Content-Length
  std::string raw;                         // sent as it stands, instead of all that is above
};

class HttpServer {
 public:
  using Handler = std::function<Reply(const SeenRequest&)>;

  explicit HttpServer(Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int connections() const { return connections_.load(); }

 private:
  void accept_loop();
  void serve(int socket, int connection);
  bool answer(int socket, const Reply& reply, bool head);
  bool send_all(int socket, std::string_view bytes);
  bool pause(std::chrono::milliseconds time);

  const Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> connections_{0};
  std::mutex mutex_;
  std::set<int> sockets_;             // guarded by mutex_
  std::vector<std::thread> threads_;  // guarded by mutex_
  std::thread accepter_;
};

// A port of 127.0.0.1 on which nothing listens (a moment ago).
int unused_port();

std::string percent_decoded(std::string_view text, bool plus_is_space);

}  // namespace alnair::testing
