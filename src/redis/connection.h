// One connection to one server: resolving, connecting, TLS, the greeting, then requests, pipelined.
//
// Bytes in flight are bounded: of requests that were sent and of the replies that are expected, Options::window_bytes,
// but for two requests, which are always let through. Whoever has more waits for ConnectionOwner::replied.
//
// Thread safety: none; everything happens on the event loop's thread.
#pragma once

#include <sys/epoll.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "redis/request.h"
#include "redis/resp_parser.h"
#include "redis/server_error.h"
#include "redis/socket.h"

namespace alnair::redis {

struct Credentials {
  std::string user;
  std::string password;
  bool empty() const { return user.empty() && password.empty(); }
};

// What a server said of itself when it was greeted.
struct Greeting {
  std::string product;  // "redis", "valkey"; empty through a proxy
  Version version;
  std::string mode;  // "standalone", "cluster", "sentinel"
};

// Why a connection ended.
struct Closing {
  enum class Why {
    kUnreachable,  // refused, no route, unknown host, the socket's file is not there
    kTimeout,      // no progress for Options::timeout
    kTls,          // the handshake failed
    kEnded,        // by the server
    kNotRedis,     // what came is no RESP, or the greeting was not understood
    kTooOld,
    kDenied,   // wrong or missing password
    kLoading,  // the server is not ready yet
    kLocal,    // by us
  };
  Why why = Why::kLocal;
  std::string message;     // a sentence that names the endpoint
  bool was_ready = false;  // it had been greeted
  bool silent = false;     // kEnded before a byte of the server came
};
Failure failure_of(Closing::Why why);

class Connection;

class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual void ready(Connection& connection, const Greeting& greeting) = 0;
  virtual void replied(Connection& connection, Request request, Reply&& reply) = 0;
  // Some replies came: there is room for more.
  virtual void drained(Connection& connection) = 0;
  // The last call. `unanswered`: what was sent.
  virtual void closed(Connection& connection, Closing closing, std::vector<Request> unanswered) = 0;

  virtual Credentials credentials() = 0;
  // epoll's interest in the connection's descriptor; 0: none any more.
  virtual void watch(Connection& connection, int fd, std::uint32_t events) = 0;
  // Calls `resolved` on the loop's thread, unless the owner ends first.
  virtual void resolve(const Address& address,
                       std::function<void(std::vector<SocketAddress>, std::string problem)> resolved) = 0;
};

class Connection {
 public:
  // How to greet: HELLO, or what proxies let through (a password at most).
  enum class Style { kDirect, kProxy };

  Connection(ConnectionOwner& owner, const Options& options, const TlsContext* tls, const Address& address,
             Style style);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void handle(std::uint32_t events);  // what epoll reports
  // Closes with kTimeout if there was no progress for too long.
  void check(Clock::time_point now);
  void close(Closing::Why why, const std::string& what);
  void authenticate_anew();

  bool is_ready() const { return state_ == State::kReady; }
  bool has_room(std::uint64_t expected) const {
    return state_ == State::kReady &&
           (in_flight_.size() < kAlways ||
            (in_flight_.size() < kMost && in_flight_bytes_ + expected <= options_.window_bytes));
  }
  // It is time to send more.
  bool half_empty() const {
    return in_flight_.size() < kAlways ||
           (in_flight_.size() <= kMost / 2 && in_flight_bytes_ <= options_.window_bytes / 2);
  }
  // Queues it for flush(). Only when has_room(). `expected`: bytes of the reply, about.
  void send(const Request& request, std::uint64_t expected);
  void flush();
  // Forgets who waits for the requests of this batch; their replies are dropped.
  void forget(const Batch* batch, const std::function<void(Request)>& each);

  bool idle() const { return in_flight_.empty(); }
  const Address& address() const { return address_; }
  Style style() const { return style_; }
  void* context = nullptr;  // the owner's

 private:
  enum class State { kNew, kResolving, kConnecting, kProbing, kGreeting, kReady, kClosed };
  enum class Kind : std::uint8_t { kRequest, kAsking, kHello, kAuth, kInfo };
  struct Sent {
    Request request;
    Kind kind = Kind::kRequest;
    std::uint64_t cost = 0;  // bytes in flight
  };
  static constexpr std::size_t kAlways = 2;  // requests
  static constexpr std::size_t kMost = 4096;

  void connect_next();
  void continue_connect();
  void probe();
  void continue_probe();
  void close_silent_handshake();
  void greet();
  void send_internal(Kind kind, std::initializer_list<std::string_view> arguments);
  void became_ready();
  void receive();
  bool take_replies();
  void take(Sent sent, Reply&& reply);
  void take_hello(const Reply& reply);
  void take_info(const Reply& reply);
  void update_interest();
  std::string name() const;

  ConnectionOwner& owner_;
  const Options& options_;
  const TlsContext* const tls_;
  const Address address_;
  const Style style_;

  State state_ = State::kNew;
  std::vector<SocketAddress> addresses_;
  std::size_t next_address_ = 0;
  std::unique_ptr<Socket> socket_;
  std::uint32_t interest_ = 0;
  RespParser parser_;
  OutQueue out_;
  std::deque<Sent> in_flight_;
  std::uint64_t in_flight_bytes_ = 0;
  Clock::time_point last_progress_{};
  bool received_any_ = false;
  bool probed_ = false;  // PING was sent without TLS
  bool authenticated_ = false;  // a password was sent and accepted
  Greeting greeting_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace alnair::redis
