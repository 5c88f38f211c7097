#include "redis/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "redis/info.h"

namespace alnair::redis {
namespace {

constexpr std::size_t kReadsAtOnce = 16;  // then other connections have their turn
constexpr Version kOldest{6, 0, 0};
constexpr const char* kPerhapsTls = " (a server with TLS is rediss://, not redis://)";
constexpr const char* kPerhapsPlain = " (a server without TLS is redis://, not rediss://)";
constexpr std::uint64_t kLargestValue = 256ull << 20;  // bytes of a bulk string

Version parse_version(std::string_view text) {
  Version version;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (int* part : {&version.major, &version.minor, &version.patch}) {
    const auto [stopped, error] = std::from_chars(at, end, *part);
    if (error != std::errc() || stopped == end || *stopped != '.') break;
    at = stopped + 1;
  }
  return version;
}

}  // namespace

Failure failure_of(Closing::Why why) {
  switch (why) {
    case Closing::Why::kTimeout:
      return Failure::kTimeout;
    case Closing::Why::kTls:
    case Closing::Why::kNotRedis:
    case Closing::Why::kTooOld:
      return Failure::kUnsupported;
    case Closing::Why::kDenied:
      return Failure::kDenied;
    case Closing::Why::kLocal:
      return Failure::kCancelled;
    case Closing::Why::kUnreachable:
    case Closing::Why::kEnded:
    case Closing::Why::kLoading:
      break;
  }
  return Failure::kUnavailable;
}

Connection::Connection(ConnectionOwner& owner, const Options& options, const TlsContext* tls, const Address& address,
                       Style style)
    : owner_(owner),
      options_(options),
      tls_(tls),
      address_(address),
      style_(style),
      parser_({.max_bulk_bytes = kLargestValue}) {}

Connection::~Connection() { *alive_ = false; }

std::string Connection::name() const { return address_.text(); }

void Connection::start() {
  last_progress_ = Clock::now();
  addresses_ = numeric_addresses(address_);
  if (!addresses_.empty()) return connect_next();
  state_ = State::kResolving;
  owner_.resolve(address_, [this, alive = alive_](std::vector<SocketAddress> addresses, const std::string& problem) {
    if (!*alive || state_ != State::kResolving) return;
    if (addresses.empty())
      return close(Closing::Why::kUnreachable, fmt::format("has a name that leads nowhere: {}", problem));
    addresses_ = std::move(addresses);
    connect_next();
  });
}

void Connection::connect_next() {
  state_ = State::kConnecting;
  if (socket_) owner_.watch(*this, socket_->fd(), interest_ = 0);
  socket_ = std::make_unique<Socket>(addresses_[next_address_++], tls_, address_.host);
  continue_connect();
}

void Connection::continue_connect() {
  switch (socket_->connect()) {
    case Socket::State::kDone:
      return greet();
    case Socket::State::kWaiting:
      return update_interest();
    case Socket::State::kTlsFailed:
      return close(Closing::Why::kTls,
                   fmt::format("could not be greeted by TLS: {}{}", socket_->problem(), kPerhapsPlain));
    case Socket::State::kClosed:
    case Socket::State::kFailed:
      if (next_address_ < addresses_.size()) return connect_next();
      return close(Closing::Why::kUnreachable, fmt::format("cannot be reached: {}", socket_->problem()));
  }
}

// A Redis without TLS takes the greeting of TLS for a command that never ends, and is silent. What is left of the timeout
// goes to asking it without TLS: if it answers, the URL is wrong, and not the server slow. PING gives nothing away.
void Connection::probe() {
  state_ = State::kProbing;
  owner_.watch(*this, socket_->fd(), interest_ = 0);
  socket_ = std::make_unique<Socket>(addresses_[next_address_ - 1], nullptr, address_.host);
  continue_probe();
}

void Connection::continue_probe() {
  std::string ping = "*1\r\n$4\r\nPING\r\n";
  const iovec piece{ping.data(), ping.size()};
  std::array<std::byte, 64> answer;
  Socket::State state = socket_->connect();
  if (state == Socket::State::kDone && !std::exchange(probed_, true)) state = socket_->write({&piece, 1}).state;
  if (state == Socket::State::kDone) state = socket_->read({answer, {}}).state;
  if (state == Socket::State::kWaiting) return update_interest();
  if (state == Socket::State::kDone && (answer[0] == std::byte{'+'} || answer[0] == std::byte{'-'}))
    return close(Closing::Why::kTls, fmt::format("speaks without TLS{}", kPerhapsPlain));
  close_silent_handshake();
}

void Connection::close_silent_handshake() {
  close(Closing::Why::kTimeout, fmt::format("did not answer the greeting of TLS within {} ms{}",
                                            options_.timeout.count(), kPerhapsPlain));
}

void Connection::greet() {
  state_ = State::kGreeting;
  last_progress_ = Clock::now();
  const Credentials credentials = owner_.credentials();
  const std::string_view user = credentials.user.empty() ? std::string_view("default") : credentials.user;
  if (style_ == Style::kProxy) {
    if (credentials.empty()) {
      became_ready();
    } else if (credentials.user.empty()) {
      send_internal(Kind::kAuth, {"AUTH", credentials.password});
    } else {
      send_internal(Kind::kAuth, {"AUTH", credentials.user, credentials.password});
    }
  } else if (credentials.empty()) {
    send_internal(Kind::kHello, {"HELLO", "2"});
  } else {
    send_internal(Kind::kHello, {"HELLO", "2", "AUTH", user, credentials.password});
  }
  if (state_ != State::kClosed) flush();
}

void Connection::send_internal(Kind kind, std::initializer_list<std::string_view> arguments) {
  out_.append_header('*', arguments.size());
  for (const std::string_view argument : arguments) out_.append_bulk(argument);
  in_flight_.push_back({{}, kind, 0});
}

void Connection::authenticate_anew() {
  if (state_ != State::kReady) return;
  const Credentials credentials = owner_.credentials();
  if (credentials.empty()) return;
  if (in_flight_.empty()) last_progress_ = Clock::now();
  if (credentials.user.empty())
    send_internal(Kind::kAuth, {"AUTH", credentials.password});
  else
    send_internal(Kind::kAuth, {"AUTH", credentials.user, credentials.password});
  flush();
}

void Connection::became_ready() {
  state_ = State::kReady;
  update_interest();
  owner_.ready(*this, greeting_);
}

void Connection::send(const Request& request, std::uint64_t expected) {
  if (in_flight_.empty()) last_progress_ = Clock::now();
  if (request.asking) send_internal(Kind::kAsking, {"ASKING"});
  if (request.of_replica) send_internal(Kind::kAsking, {"READONLY"});  // denied: the GET is answered by MOVED
  const std::size_t before = out_.size();
  encode(request, out_);
  const std::uint64_t cost = out_.size() - before + expected;
  in_flight_.push_back({request, Kind::kRequest, cost});
  in_flight_bytes_ += cost;
}

void Connection::flush() {
  while (!out_.empty()) {
    std::array<iovec, 64> pieces;
    const std::size_t count = out_.gather(pieces);
    if (count == 0) {
      out_.clear();
      break;
    }
    const Socket::Progress progress = socket_->write({pieces.data(), count});
    if (progress.state == Socket::State::kWaiting) break;
    if (progress.state != Socket::State::kDone) {
      // What the server said before it ended may still be there: an error, perhaps.
      if (progress.state == Socket::State::kClosed) break;
      return close(Closing::Why::kEnded, fmt::format("broke off: {}", socket_->problem()));
    }
    out_.sent(progress.bytes);
    last_progress_ = Clock::now();
  }
  update_interest();
}

void Connection::update_interest() {
  std::uint32_t wanted = EPOLLIN;
  if (state_ == State::kConnecting) {
    if (socket_->wants_write()) wanted = EPOLLOUT;
  } else if (!out_.empty() || socket_->wants_write()) {
    wanted |= EPOLLOUT;
  }
  if (wanted == interest_) return;
  interest_ = wanted;
  owner_.watch(*this, socket_->fd(), wanted);
}

void Connection::handle(std::uint32_t events) {
  const auto alive = alive_;
  if (state_ == State::kConnecting) {
    continue_connect();
    if (!*alive || state_ == State::kConnecting || state_ == State::kClosed) return;
  }
  if (state_ == State::kProbing) return continue_probe();
  if (state_ != State::kGreeting && state_ != State::kReady) return;
  receive();
  if (!*alive || state_ == State::kClosed) return;
  if ((events & EPOLLOUT) != 0) flush();
}

void Connection::receive() {
  const auto alive = alive_;
  for (std::size_t reads = 0; reads < kReadsAtOnce || socket_->has_pending(); ++reads) {
    const Socket::Progress progress = socket_->read(parser_.room());
    if (progress.state == Socket::State::kWaiting) break;
    if (progress.state != Socket::State::kDone) {
      return close(Closing::Why::kEnded, progress.state == Socket::State::kClosed
                                             ? "ended the connection"
                                             : fmt::format("broke off: {}", socket_->problem()));
    }
    last_progress_ = Clock::now();
    received_any_ = true;
    parser_.received(progress.bytes);
    if (!take_replies() || !*alive || state_ == State::kClosed) return;
    if (state_ == State::kReady) owner_.drained(*this);
    if (!*alive || state_ == State::kClosed) return;
  }
  update_interest();
}

// False: closed.
bool Connection::take_replies() {
  const auto alive = alive_;
  while (true) {
    Reply reply;
    const bool wanted =
        !in_flight_.empty() && in_flight_.front().kind == Kind::kRequest && in_flight_.front().request.batch != nullptr;
    const CallOptions options = wanted ? in_flight_.front().request.batch->options : CallOptions();
    switch (parser_.next(reply, options.body_offset, options.most_bytes)) {
      case RespParser::Outcome::kMore:
        return true;
      case RespParser::Outcome::kBroken:
        close(Closing::Why::kNotRedis, fmt::format("does not speak the protocol of Redis: {}{}", parser_.problem(),
                                                   tls_ == nullptr && state_ == State::kGreeting ? kPerhapsTls : ""));
        return false;
      case RespParser::Outcome::kReply:
        break;
    }
    if (in_flight_.empty()) {
      const std::string said = reply.type == Reply::Type::kError ? ": " + quoted(reply.text()) : "";
      close(Closing::Why::kNotRedis, fmt::format("sent a reply that nobody asked for{}", said));
      return false;
    }
    Sent sent = in_flight_.front();
    in_flight_.pop_front();
    in_flight_bytes_ -= sent.cost;
    take(sent, std::move(reply));
    if (!*alive || state_ == State::kClosed) return false;
  }
}

void Connection::take(Sent sent, Reply&& reply) {
  switch (sent.kind) {
    case Kind::kRequest:
      if (sent.request.batch != nullptr) owner_.replied(*this, sent.request, std::move(reply));
      return;
    case Kind::kAsking:
      return;
    case Kind::kHello:
      return take_hello(reply);
    case Kind::kInfo:
      return take_info(reply);
    case Kind::kAuth:
      if (reply.type == Reply::Type::kError && understand(reply.text()).error != ServerError::kUnknownCommand &&
          reply.text().find("without any password configured") == std::string_view::npos)
        return close(Closing::Why::kDenied, fmt::format("refuses the password: {}", quoted(reply.text())));
      if (state_ == State::kGreeting && style_ == Style::kProxy) became_ready();
      return;
  }
}

void Connection::take_hello(const Reply& reply) {
  if (reply.type == Reply::Type::kArray) {
    for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) {
      const std::string_view name = reply.elements[i].text(), value = reply.elements[i + 1].text();
      if (name == "server") greeting_.product = value;
      if (name == "version") greeting_.version = parse_version(value);
      if (name == "mode") greeting_.mode = value;
    }
    if (greeting_.version < kOldest)
      return close(Closing::Why::kTooOld, fmt::format("is {} {}; Alnair needs {} or later", greeting_.product,
                                                      greeting_.version.text(), kOldest.text()));
    return became_ready();
  }
  if (reply.type != Reply::Type::kError) return close(Closing::Why::kNotRedis, "did not answer HELLO as Redis does");
  switch (understand(reply.text()).error) {
    case ServerError::kWrongPass:
      return close(Closing::Why::kDenied,
                   fmt::format("refuses the password of the user '{}'",
                               owner_.credentials().user.empty() ? "default" : owner_.credentials().user));
    case ServerError::kNoAuth:
      return close(Closing::Why::kDenied,
                   options_.password_file.empty()
                       ? std::string("asks for a password, and the URL has none")
                       : fmt::format("asks for a password, and password_file '{}' has none", options_.password_file));
    case ServerError::kLoading:
    case ServerError::kBusy:
    case ServerError::kMasterDown:
      return close(Closing::Why::kLoading, fmt::format("is not ready: {}", quoted(reply.text())));
    case ServerError::kUnknownCommand: {
      // Older than HELLO, or no Redis: INFO tells.
      const Credentials credentials = owner_.credentials();
      if (!credentials.password.empty()) send_internal(Kind::kAuth, {"AUTH", credentials.password});
      send_internal(Kind::kInfo, {"INFO", "server"});
      return flush();
    }
    default:
      if (reply.text().find("max number of clients") != std::string_view::npos)
        return close(Closing::Why::kLoading, fmt::format("takes no more connections: {}", quoted(reply.text())));
      return close(Closing::Why::kNotRedis, fmt::format("refuses HELLO: {}", quoted(reply.text())));
  }
}

void Connection::take_info(const Reply& reply) {
  const std::string_view version = reply.type == Reply::Type::kBulk ? info_field(reply.text(), "redis_version") : "";
  if (version.empty()) return close(Closing::Why::kNotRedis, "knows neither HELLO nor INFO");
  close(Closing::Why::kTooOld, fmt::format("is Redis {}; Alnair needs {} or later", quoted(version), kOldest.text()));
}

void Connection::check(Clock::time_point now) {
  if (state_ == State::kNew || state_ == State::kClosed || (state_ == State::kReady && in_flight_.empty())) return;
  const auto waited = now - last_progress_;
  if (state_ == State::kConnecting && socket_->in_handshake() && waited > options_.timeout * 3 / 4) return probe();
  if (waited <= options_.timeout) return;
  const auto ms = options_.timeout.count();
  switch (state_) {
    case State::kResolving:
      return close(Closing::Why::kTimeout, fmt::format("has a name that was not resolved within {} ms", ms));
    case State::kConnecting:
      return close(Closing::Why::kTimeout, fmt::format("did not accept a connection within {} ms", ms));
    case State::kProbing:
      return close_silent_handshake();
    default:
      return close(Closing::Why::kTimeout, fmt::format("did not answer within {} ms", ms));
  }
}

void Connection::close(Closing::Why why, const std::string& what) {
  if (state_ == State::kClosed) return;
  Closing closing{why, fmt::format("Redis at {} {}.", name(), what), state_ == State::kReady, !received_any_};
  state_ = State::kClosed;
  if (socket_) {
    owner_.watch(*this, socket_->fd(), interest_ = 0);
    socket_.reset();
  }
  out_.clear();
  std::vector<Request> unanswered;
  for (const Sent& sent : in_flight_)
    if (sent.kind == Kind::kRequest && sent.request.batch != nullptr) unanswered.push_back(sent.request);
  in_flight_.clear();
  in_flight_bytes_ = 0;
  owner_.closed(*this, std::move(closing), std::move(unanswered));
}

void Connection::forget(const Batch* batch, const std::function<void(Request)>& each) {
  for (Sent& sent : in_flight_)
    if (sent.kind == Kind::kRequest && sent.request.batch == batch) {
      each(sent.request);
      sent.request.batch = nullptr;
    }
}

}  // namespace alnair::redis
