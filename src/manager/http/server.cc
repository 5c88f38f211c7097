// How a request travels:
// 1. libmicrohttpd's event loop calls access() when the headers are there, again with each piece of the body, and once
//    more after the last one. Then the connection is suspended (the loop forgets it) and the request queued.
// 2. A worker takes it, calls the handler, leaves the answer in the exchange, and resumes the connection.
// 3. The loop calls access() again, which hands the answer over; completed() ends the exchange.
// A thread looks every second for connections whose request takes too long to arrive, and shuts their sockets down: the
// loop then sees them closed; it also looks whether certificates have changed.
// libmicrohttpd's own time-out starts again with each byte, which a slow sender uses.
#include "manager/http/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "manager/http/listener.h"
#include "manager/identity/crypto.h"

namespace alnair::manager {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kBearer = "Bearer ";
constexpr std::uint64_t kDroppedBodies = 8;  // times max_body_bytes

// A connection's time: guarded by the server's mutex.
struct Connection {
  int socket = -1;
  Clock::time_point deadline;  // by which the next request must have arrived
  bool cut = false;
  std::shared_ptr<const Tls::Credentials> credentials = {};  // of its session; null: no TLS
  std::optional<std::string> refusal = {};                   // of its client's certificate, once that was looked at
};

struct Exchange {
  MHD_Connection* connection = nullptr;
  Request request;
  Response response;
  bool answered = false;  // `response` is to be sent; written before the connection is resumed
  bool started = false;   // access() has seen the headers
  bool close = false;     // the connection ends with the answer
};

std::string_view find_header(MHD_Connection* connection, const char* name) {
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? std::string_view() : value;
}

// Where a body ends must be beyond doubt: what a proxy in front took for a body, a server must not take for a request.
bool is_ambiguous(MHD_Connection* connection) {
  struct Counts {
    int lengths = 0, encodings = 0, hosts = 0;
  } counts;
  MHD_get_connection_values(
      connection, MHD_HEADER_KIND,
      [](void* closure, MHD_ValueKind, const char* name, const char*) {
        auto& seen = *static_cast<Counts*>(closure);
        seen.lengths += strcasecmp(name, "Content-Length") == 0;
        seen.encodings += strcasecmp(name, "Transfer-Encoding") == 0;
        seen.hosts += strcasecmp(name, "Host") == 0;
        return MHD_YES;
      },
      &counts);
  return counts.lengths + counts.encodings > 1 || counts.hosts > 1;
}

std::string peer_address(MHD_Connection* connection) {
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  if (info == nullptr || info->client_addr == nullptr) return "?";
  char text[INET6_ADDRSTRLEN] = "?";
  if (info->client_addr->sa_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(info->client_addr)->sin6_addr, text, sizeof text);
  else
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(info->client_addr)->sin_addr, text, sizeof text);
  return text;
}

// Schemes are compared without regard to case.
bool is_bearer(std::string_view authorization) {
  return authorization.size() >= kBearer.size() && strncasecmp(authorization.data(), kBearer.data(), kBearer.size()) == 0;
}

class MicrohttpdServer final : public Server {
 public:
  MicrohttpdServer(const ServerOptions& options, Handler handler)
      : options_(options),
        handler_(std::move(handler)),
        tls_(options.tls.certificate.empty() ? nullptr : std::make_unique<Tls>(options.tls)),
        listener_(listen_on(options.address, options.port)) {
    port_ = bound_port(listener_.get());
    const BlockSignals block;
    std::vector<MHD_OptionItem> items = {
        {MHD_OPTION_LISTEN_SOCKET, listener_.get(), nullptr},
        {MHD_OPTION_CONNECTION_LIMIT, static_cast<std::intptr_t>(options.max_connections), nullptr},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, static_cast<std::intptr_t>(2 * options.max_header_bytes), nullptr},
        {MHD_OPTION_CONNECTION_TIMEOUT, static_cast<std::intptr_t>(options.idle_timeout.count()), nullptr},
        {MHD_OPTION_NOTIFY_CONNECTION, reinterpret_cast<std::intptr_t>(&notify_connection), this},
        {MHD_OPTION_NOTIFY_COMPLETED, reinterpret_cast<std::intptr_t>(&completed), this},
        {MHD_OPTION_URI_LOG_CALLBACK, reinterpret_cast<std::intptr_t>(&started), this},
        {MHD_OPTION_UNESCAPE_CALLBACK, reinterpret_cast<std::intptr_t>(&leave_escaped), this}};
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME;
    std::shared_ptr<const Tls::Credentials> credentials;
    if (tls_ != nullptr) {  // sessions get their own credentials when they begin; these make libmicrohttpd speak TLS
      flags |= MHD_USE_TLS;
      credentials = tls_->current();
      items.push_back({MHD_OPTION_HTTPS_MEM_CERT, 0, const_cast<char*>(credentials->certificate.c_str())});
      items.push_back({MHD_OPTION_HTTPS_MEM_KEY, 0, const_cast<char*>(credentials->key.c_str())});
      items.push_back({MHD_OPTION_HTTPS_PRIORITIES, 0, const_cast<char*>("NORMAL:-VERS-TLS1.0:-VERS-TLS1.1")});
    }
    items.push_back({MHD_OPTION_END, 0, nullptr});
    daemon_ = MHD_start_daemon(flags, 0, nullptr, nullptr, &access, this, MHD_OPTION_ARRAY, items.data(), MHD_OPTION_END);
    if (daemon_ == nullptr) throw ConfigError(fmt::format("cannot serve HTTP on {} port {}", options.address, port_));
    for (int i = 0; i < options.workers; ++i) threads_.emplace_back([this] { work(); });
    threads_.emplace_back([this] { cut_slow_connections(); });
  }

  ~MicrohttpdServer() override { stop(std::chrono::milliseconds(0)); }

  std::uint16_t port() const override { return port_; }

  std::uint64_t connections() const override {
    const std::lock_guard lock(mutex_);
    return connections_.size();
  }

  void stop(std::chrono::milliseconds deadline) override {
    if (daemon_ == nullptr) return;
    MHD_quiesce_daemon(daemon_);
    shutdown(listener_.get(), SHUT_RDWR);  // refuses from here on; the daemon's thread may still be about to look at it
    {
      // Whoever still sends a request gets it answered, with "Connection: close"; who sends none is not waited for.
      std::unique_lock lock(mutex_);
      stopping_ = true;
      ended_.wait_for(lock, deadline, [&] { return exchanges_ == 0; });
      refusing_ = true;  // what is queued gets 503 without the handler
    }
    queued_.notify_all();
    ended_.notify_all();
    for (std::thread& thread : threads_)
      thread.join();  // a suspended connection must be resumed before the daemon ends
    MHD_stop_daemon(daemon_);
    daemon_ = nullptr;
    listener_ = {};
  }

 private:
  static MicrohttpdServer& self(void* closure) { return *static_cast<MicrohttpdServer*>(closure); }

  static std::size_t leave_escaped(void*, MHD_Connection*, char* text) { return std::char_traits<char>::length(text); }

  // The request line has arrived: what is returned becomes *context of access().
  static void* started(void* closure, const char* uri, MHD_Connection* connection) {
    auto* exchange = new Exchange{.connection = connection, .request = {}, .response = {}};
    exchange->request.id = random_id();
    const std::string_view target(uri);
    const std::size_t question = target.find('?');
    if (!parse_target(target.substr(0, question), question == std::string_view::npos ? "" : target.substr(question + 1),
                      exchange->request))
      refuse(*exchange, {400, "malformed-target", "the path or query of the request is malformed"});
    MicrohttpdServer& server = self(closure);
    const std::lock_guard lock(server.mutex_);
    ++server.exchanges_;
    if (Connection* state = connection_state(connection))
      state->deadline = Clock::now() + server.options_.request_timeout;
    return exchange;
  }

  static Connection* connection_state(MHD_Connection* connection) {
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == nullptr ? nullptr : static_cast<Connection*>(info->socket_context);
  }

  static void refuse(Exchange& exchange, const Problem& problem) {
    exchange.response = problem_response(problem, exchange.request.id);
    exchange.answered = true;
  }

  static MHD_Result access(void* closure, MHD_Connection* connection, const char*, const char* method, const char*,
                           const char* upload, std::size_t* upload_size, void** context) {
    MicrohttpdServer& server = self(closure);
    Exchange& exchange = *static_cast<Exchange*>(*context);
    if (!exchange.started) {
      exchange.started = true;
      return server.read_headers(exchange, method);
    }
    if (*upload_size > 0) {
      Request& request = exchange.request;
      if (request.body.size() + *upload_size > server.options_.max_body_bytes)
        refuse_body(exchange, server.options_.max_body_bytes);
      if (!exchange.answered) request.body.append(upload, *upload_size);
      *upload_size = 0;
      return MHD_YES;
    }
    if (exchange.answered) return server.send(exchange);
    {
      const std::lock_guard lock(server.mutex_);
      if (Connection* state = connection_state(connection)) state->deadline = Clock::time_point::max();
    }
    MHD_suspend_connection(connection);
    server.enqueue(exchange);
    return MHD_YES;
  }

  static void refuse_body(Exchange& exchange, std::size_t limit) {
    exchange.request.body = {};
    refuse(exchange, {413, "body-too-large", fmt::format("the body is larger than {} bytes", limit)});
  }

  MHD_Result read_headers(Exchange& exchange, const char* method) {
    Request& request = exchange.request;
    request.method = method;
    request.peer = peer_address(exchange.connection);
    request.certificate_refusal = certificate_refusal(exchange.connection);
    request.content_type = find_header(exchange.connection, "Content-Type");
    const std::string_view authorization = find_header(exchange.connection, "Authorization");
    if (is_ambiguous(exchange.connection)) {
      exchange.close = true;
      refuse(exchange, {400, "ambiguous-request", "expected one Host, and one Content-Length or Transfer-Encoding at most"});
      return send(exchange);
    }
    if (is_bearer(authorization)) request.token = authorization.substr(kBearer.size());
    const auto* size = MHD_get_connection_info(exchange.connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (size != nullptr && size->header_size > options_.max_header_bytes) {
      refuse(exchange, {431, "header-too-large",
                        fmt::format("the request's line and headers are larger than {} bytes", options_.max_header_bytes)});
      return send(exchange);
    }
    const std::string text(find_header(exchange.connection, "Content-Length"));
    const std::uint64_t length = text.size() > 18 ? UINT64_MAX : std::strtoull(text.c_str(), nullptr, 10);
    if (length > options_.max_body_bytes) refuse_body(exchange, options_.max_body_bytes);
    // Most clients look for an answer when they have sent all: a body that is not much too large is read, and dropped.
    return length > kDroppedBodies * options_.max_body_bytes ? send(exchange) : MHD_YES;
  }

  // Looked at once a connection.
  std::string certificate_refusal(MHD_Connection* connection) const {
    Connection* state = connection_state(connection);
    if (tls_ == nullptr || state == nullptr) return "";
    if (!state->refusal) state->refusal = tls_->refusal(session_of(connection));
    return *state->refusal;
  }

  static gnutls_session_t session_of(MHD_Connection* connection) {
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return static_cast<gnutls_session_t>(info->tls_session);
  }

  void enqueue(Exchange& exchange) {
    {
      const std::lock_guard lock(mutex_);
      if (queue_.size() < options_.max_queue && !refusing_) {
        queue_.push_back(&exchange);
        queued_.notify_one();
        return;
      }
    }
    refuse(exchange, {503, "busy", "the manager has too many requests to answer", 1});
    MHD_resume_connection(exchange.connection);
  }

  MHD_Result send(Exchange& exchange) {
    const Response& response = exchange.response;
    MHD_Response* answer = MHD_create_response_from_buffer(
        response.body.size(), const_cast<char*>(response.body.data()), MHD_RESPMEM_MUST_COPY);
    if (answer == nullptr) return MHD_NO;
    if (!response.content_type.empty() && response.status != 204)
      MHD_add_response_header(answer, "Content-Type", response.content_type.c_str());
    MHD_add_response_header(answer, "X-Request-Id", exchange.request.id.c_str());
    MHD_add_response_header(answer, "Cache-Control", "no-store");
    MHD_add_response_header(answer, "X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) MHD_add_response_header(answer, name.c_str(), value.c_str());
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || exchange.close) MHD_add_response_header(answer, "Connection", "close");
    }
    const MHD_Result result = MHD_queue_response(exchange.connection, static_cast<unsigned>(response.status), answer);
    MHD_destroy_response(answer);
    return result;
  }

  static void completed(void* closure, MHD_Connection* connection, void** context, MHD_RequestTerminationCode) {
    delete static_cast<Exchange*>(*context);
    *context = nullptr;
    MicrohttpdServer& server = self(closure);
    const std::lock_guard lock(server.mutex_);
    --server.exchanges_;
    if (Connection* state = connection_state(connection)) state->deadline = server.next_deadline();
    if (server.stopping_) server.ended_.notify_all();
  }

  static void notify_connection(void* closure, MHD_Connection* connection, void** context,
                                MHD_ConnectionNotificationCode code) {
    MicrohttpdServer& server = self(closure);
    const std::lock_guard lock(server.mutex_);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
      const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
      auto* state = new Connection{info->connect_fd, server.next_deadline()};
      if (server.tls_ != nullptr) {
        state->credentials = server.tls_->current();
        server.tls_->begin(session_of(connection), *state->credentials);
      }
      server.connections_.insert(state);
      *context = state;
    } else {  // its socket is closed after this
      auto* state = static_cast<Connection*>(*context);
      server.connections_.erase(state);
      delete state;
      *context = nullptr;
    }
  }

  // A connection may be idle for the idle time-out; whoever sends less than a request line for longer is cut.
  Clock::time_point next_deadline() const { return Clock::now() + options_.idle_timeout + options_.request_timeout; }

  void cut_slow_connections() {
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, std::chrono::seconds(1), [&] { return refusing_; })) {
      if (tls_ != nullptr) {
        lock.unlock();
        tls_->reload_if_changed();
        lock.lock();
      }
      const auto now = Clock::now();
      for (Connection* connection : connections_) {
        if (connection->cut || now < connection->deadline) continue;
        connection->cut = true;
        ::shutdown(connection->socket, SHUT_RDWR);
      }
    }
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      queued_.wait(lock, [&] { return refusing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Exchange& exchange = *queue_.front();
      queue_.pop_front();
      const bool serve = !refusing_;
      lock.unlock();
      if (serve) {
        exchange.response = handler_(exchange.request);
        exchange.answered = true;
      } else {
        refuse(exchange, {503, "stopping", "the manager is stopping", 1});
      }
      MHD_resume_connection(exchange.connection);
      lock.lock();
    }
  }

  const ServerOptions options_;
  const Handler handler_;
  const std::unique_ptr<Tls> tls_;  // null: clear text
  FileDescriptor listener_;
  std::uint16_t port_ = 0;
  MHD_Daemon* daemon_ = nullptr;
  mutable std::mutex mutex_;
  std::condition_variable queued_;     // a request, or refusing_
  std::condition_variable ended_;      // an exchange while stopping, or refusing_
  std::set<Connection*> connections_;  // guarded by mutex_, as all that follows
  std::deque<Exchange*> queue_;
  std::uint64_t exchanges_ = 0;  // requests whose line has arrived and whose answer is not sent
  bool stopping_ = false;
  bool refusing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Server> Server::start(const ServerOptions& options, Handler handler) {
  return std::make_unique<MicrohttpdServer>(options, std::move(handler));
}

}  // namespace alnair::manager
