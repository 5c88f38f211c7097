#include "redis/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/log.h"
#include "core/read_file.h"

namespace alnair::redis {
namespace {

using std::chrono::milliseconds;

constexpr int kMaxRedirections = 8;
constexpr int kMaxRepeats = 2;                  // after a connection that broke
constexpr int kMaxTries = 6;                    // where the server says "not now"
constexpr auto kFirstDelay = milliseconds(20);  // between those; doubles
constexpr auto kNotReadyPause = milliseconds(500);
constexpr auto kMapAge = std::chrono::seconds(60);  // then it is asked for anew
constexpr std::uint64_t kSmallReply = 256;          // bytes; what a command other than GET is expected to bring
constexpr const char* kClosed = "The Redis client was closed.";

}  // namespace

std::shared_ptr<Engine> Engine::start(const Options& options, std::shared_ptr<const TlsContext> tls,
                                      const Credentials& credentials) {
  std::shared_ptr<Engine> engine(new Engine(options, std::move(tls), credentials));
  const BlockSignals blocked;
  try {
    engine->thread_ = std::thread([engine] { engine->run(); });
  } catch (const std::system_error& error) {
    throw CacheError(fmt::format("redis: the system refuses a thread: {}.", std::strerror(error.code().value())));
  }
  return engine;
}

Engine::Engine(const Options& options, std::shared_ptr<const TlsContext> tls, const Credentials& credentials)
    : options_(options), tls_(std::move(tls)), credentials_(credentials) {}

Engine::~Engine() = default;

void Engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  reactor_.wake();
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id())
    thread_.detach();  // a callback closes the client: the thread keeps what it needs until it ends
  else
    thread_.join();
}

bool Engine::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    inbox_.push_back(std::move(task));
  }
  reactor_.wake();
  return true;
}

void Engine::submit(std::unique_ptr<Batch> batch) {
  const auto timeout = batch->options.deadline.count() > 0 ? batch->options.deadline : options_.deadline;
  batch->deadline = Clock::now() + timeout;
  batch->left = batch->size();
  const auto shared = std::make_shared<std::unique_ptr<Batch>>(std::move(batch));
  if (post([this, shared] { accept(std::move(*shared)); })) return;
  for (std::size_t i = 0; i < (*shared)->size(); ++i)
    (*shared)->done(i, {.failure = Failure::kCancelled, .message = kClosed});
}

void Engine::set_credentials(const Credentials& credentials) {
  {
    const std::lock_guard lock(mutex_);
    credentials_ = credentials;
  }
  post([this] {
    for (const auto& node : nodes_)
      for (Lane& lane : node->lanes)
        if (lane.connection) lane.connection->authenticate_anew();
  });
}

void Engine::run() {
  while (true) {
    take_tasks();
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) break;
    }
    pump_touched();
    const Clock::time_point now = Clock::now();
    if (now >= next_tick_) tick(now);
    graveyard_.clear();
    const bool active = !batches_.empty() || unready_;
    reactor_.wait(active ? next_tick_ : Clock::time_point::max(),
                  [](void* who, std::uint32_t events) { static_cast<Connection*>(who)->handle(events); });
  }
  shut_down();
}

void Engine::take_tasks() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(inbox_);
  }
  for (const auto& task : tasks) task();
}

// Looks for what takes too long.
void Engine::tick(Clock::time_point now) {
  next_tick_ = now + std::clamp<Clock::duration>(options_.timeout / 16, milliseconds(2), milliseconds(50));
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    for (Lane& lane : nodes_[i]->lanes)
      if (lane.connection) lane.connection->check(now);
  unready_ = std::any_of(nodes_.begin(), nodes_.end(), [](const auto& node) {
    return std::any_of(node->lanes.begin(), node->lanes.end(),
                       [](const Lane& lane) { return lane.connection && !lane.connection->is_ready(); });
  });
  std::vector<Batch*> overdue;
  for (Batch* batch : batches_)
    if (batch->deadline <= now) overdue.push_back(batch);
  for (Batch* batch : overdue) expire(batch, Failure::kTimeout, "Redis did not answer before the command's deadline.");
}

void Engine::shut_down() {
  closing_ = true;
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    for (Lane& lane : nodes_[i]->lanes)
      if (lane.connection) lane.connection->close(Closing::Why::kLocal, "is no longer needed");
  while (true) {
    take_tasks();
    for (auto& waiter : std::exchange(waiters_, {})) waiter();
    for (Batch* batch : std::vector<Batch*>(batches_.begin(), batches_.end()))
      expire(batch, Failure::kCancelled, kClosed);
    const std::lock_guard lock(mutex_);
    ended_ = inbox_.empty() && batches_.empty() && waiters_.empty();
    if (ended_) break;
  }
  graveyard_.clear();
}

// ---- requests

void Engine::accept(std::unique_ptr<Batch> owned) {
  if (owned->left == 0) return;
  Batch* const batch = owned.release();
  batches_.insert(batch);
  if (map_ && mode_ == Mode::kCluster && Clock::now() - last_refresh_ > kMapAge) refresh();
  const std::size_t size = batch->size();  // the batch may end before the loop does
  for (std::size_t i = 0; i < size; ++i) {
    Request request{.batch = batch, .index = static_cast<std::uint32_t>(i)};
    const Command* command = request.is_get() ? nullptr : &request.command();
    if (command != nullptr && command->key != Command::kNoKey && command->key >= command->args.size()) {
      finish(request, Failure::kRefused, "The command has no key where its key should be.");
      continue;
    }
    if (command == nullptr)
      request.slot = slot_of(batch->keys[i]);
    else if (command->key != Command::kNoKey)
      request.slot = slot_of(command->args[command->key].text);
    else
      request.slot = static_cast<std::uint16_t>(turn_++ % kSlots);
    enqueue(request);
  }
}

void Engine::enqueue(Request request) {
  if (closing_) return finish(request, Failure::kCancelled, kClosed);
  if (!misconfigured_.empty()) return finish(request, Failure::kUnsupported, misconfigured_);
  if (!map_) {
    parked_.push_back(request);
    return discover();
  }
  Node* const node = route(request);
  if (node != nullptr) return put(*node, request);
  if (!request.is_get() && !request.command().node.empty())
    return finish(request, Failure::kUnavailable,
                  fmt::format("Redis has no node {} any more.", request.command().node));
  if (!request.waited_for_map && refresh()) {
    request.waited_for_map = true;
    parked_.push_back(request);
  } else {
    finish(request, Failure::kUnavailable,
           fmt::format("No node of the Redis Cluster serves the hash slots {}.", map_->uncovered()));
  }
}

void Engine::put(Node& node, Request request, bool first) {
  const Clock::time_point now = Clock::now();
  if (!node.breaker.closed() && !request.batch->internal) {
    if (node.breaker.take_probe(now)) probe(node);
    return reroute_or_fail(node, request);
  }
  if (now < node.pause_until && !request.batch->internal) return reroute_or_fail(node, request);
  Lane& lane = node.lanes[request.is_get() ? kValues : kCommands];
  if (first)
    lane.queue.push_front(request);
  else
    lane.queue.push_back(request);
  if (!std::exchange(lane.touched, true)) touched_.push_back(&lane);
}

void Engine::pump_touched() {
  while (!touched_.empty())
    for (Lane* lane : std::exchange(touched_, {})) {
      lane->touched = false;
      pump(*lane);
    }
}

void Engine::pump(Lane& lane) {
  if (lane.queue.empty()) return;
  if (!lane.connection) return open(lane);
  Connection& connection = *lane.connection;
  bool sent = false;
  while (!lane.queue.empty()) {
    const Request& request = lane.queue.front();
    const std::uint64_t hint = request.batch->options.expected_bytes;
    const std::uint64_t expected = hint > 0 ? hint : request.is_get() ? lane.node->typical_reply : kSmallReply;
    if (!connection.has_room(expected)) break;
    connection.send(request, expected);
    lane.queue.pop_front();
    sent = true;
  }
  if (sent) connection.flush();
}

void Engine::delay(Request request, Clock::duration how_long) {
  delayed_.push_back({Clock::now() + how_long, request});
  reactor_.after(how_long, [this] {
    const Clock::time_point now = Clock::now();
    std::vector<Request> due;
    std::erase_if(delayed_, [&](const Delayed& each) {
      if (each.due <= now) due.push_back(each.request);
      return each.due <= now;
    });
    for (const Request& each : due) enqueue(each);
  });
}

void Engine::finish(Request request, Failure failure, std::string message) {
  end(request, {.failure = failure, .message = std::move(message)});
}

void Engine::finish(Request request, Reply&& reply) { end(request, {.reply = std::move(reply)}); }

void Engine::end(Request request, Result&& result) {
  Batch* const batch = request.batch;
  batch->done(request.index, std::move(result));
  if (--batch->left > 0) return;
  batches_.erase(batch);
  delete batch;
}

// Ends what is left of a batch, wherever it waits: its deadline has passed, or the client is closed.
void Engine::expire(Batch* batch, Failure failure, const char* message) {
  std::vector<Request> found;
  const auto is_its = [&](const Request& request) {
    if (request.batch == batch) found.push_back(request);
    return request.batch == batch;
  };
  std::erase_if(parked_, is_its);
  std::erase_if(delayed_, [&](const Delayed& each) { return is_its(each.request); });
  for (const auto& node : nodes_)
    for (Lane& lane : node->lanes) {
      std::erase_if(lane.queue, is_its);
      if (lane.connection) lane.connection->forget(batch, [&](Request request) { found.push_back(request); });
    }
  for (const Request& request : found) finish(request, failure, message);
}

// For what is meant for a node that is left alone: perhaps another one serves the slot by now.
void Engine::reroute_or_fail(Node& node, Request request) {
  const bool pinned = request.batch->internal || (!request.is_get() && !request.command().node.empty());
  request.asking = false;
  if (!pinned && mode_ == Mode::kProxy && request.repeats < options_.seeds.size()) {
    ++request.repeats;
    Node* const other = route(request);
    if (other != nullptr && other != &node) return put(*other, request);
  }
  if (!pinned && mode_ == Mode::kCluster && !request.waited_for_map && (refresh() || refresh_soon(node))) {
    request.waited_for_map = true;
    parked_.push_back(request);
    return;
  }
  // A replica may be behind its master. That is a chunk less, never a wrong one.
  const bool reads = request.is_get() || request.command().of_replica;
  if (reads && !pinned && mode_ == Mode::kCluster && !std::exchange(request.of_replica, true))
    if (Node* const replica = replica_of(request.slot)) return put(*replica, request);
  finish(request, node.failure, node.problem);
}

// One command to one node, past all routing.
void Engine::ask(Node& node, Command command, milliseconds deadline, std::function<void(Result&&)> done) {
  auto batch = std::make_unique<Batch>();
  batch->commands.push_back(std::move(command));
  batch->done = [done = std::move(done)](std::size_t, Result&& result) { done(std::move(result)); };
  batch->deadline = Clock::now() + deadline;
  batch->left = 1;
  batch->internal = true;
  Batch* const raw = batch.release();
  batches_.insert(raw);
  put(node, {.batch = raw});
}

// ---- what connections report

void Engine::replied(Connection& connection, Request request, Reply&& reply) {
  Lane& lane = *static_cast<Lane*>(connection.context);
  if (reply.type == Reply::Type::kError) return answer_error(*lane.node, connection, request, reply);
  if (reply.type == Reply::Type::kBulk && request.is_get()) {
    // Grows at once and shrinks slowly: too much in flight is worse than too little.
    std::uint64_t& typical = lane.node->typical_reply;
    typical = std::max(reply.bytes.size(), (7 * typical + reply.bytes.size()) / 8);
  }
  finish(request, std::move(reply));
}

void Engine::drained(Connection& connection) {
  // Half a window at a time: fewer and larger writes, here and at the server.
  if (connection.half_empty()) pump(*static_cast<Lane*>(connection.context));
}

void Engine::answer_error(Node& node, Connection& connection, Request request, const Reply& reply) {
  const ServerErrorInfo info = understand(reply.text());
  const auto message = [&](std::string_view what) {
    return fmt::format("Redis at {} {}: {}.", node.name, what, quoted(reply.text()));
  };
  if (request.batch->internal) return finish(request, failure_of(info.error), message("refuses a command"));
  const bool pinned = !request.is_get() && !request.command().node.empty();
  switch (info.error) {
    case ServerError::kMoved:
    case ServerError::kAsk: {
      Address target = info.target;
      if (target.host.empty()) target.host = node.address.host;
      if (mode_ != Mode::kCluster)
        return finish(request, Failure::kUnsupported, message("is part of a cluster, and mode is not cluster"));
      if (pinned || ++request.redirections > kMaxRedirections)
        return finish(request, Failure::kUnavailable, message("sends the command elsewhere, again and again"));
      request.asking = info.error == ServerError::kAsk;
      if (request.asking) return put(node_at(target), request);
      map_->move(info.slot, target);
      refresh();
      return put(node_at(target), request);
    }
    case ServerError::kTryAgain:
    case ServerError::kClusterDown:
    case ServerError::kMasterDown:
    case ServerError::kReadOnly:
      return retry_later(node, request, info.error, message("cannot serve the command now"));
    case ServerError::kLoading:
    case ServerError::kBusy:
      node.pause_until = Clock::now() + kNotReadyPause;
      node.failure = Failure::kUnavailable;
      node.problem = message("is not ready");
      return reroute_or_fail(node, request);
    case ServerError::kNoScript:
      if (request.is_get() || request.command().script == nullptr || request.full_script) break;
      request.full_script = true;
      return put(node, request, true);
    case ServerError::kNoAuth:
      if (request.repeats > 0) return finish(request, Failure::kDenied, message("wants a password"));
      ++request.repeats;
      connection.close(Closing::Why::kEnded, "logged this client out");  // and in again, with today's password
      return enqueue(request);
    case ServerError::kWrongPass:
    case ServerError::kNoPerm: {
      const std::string user = credentials().user;
      const std::string_view command = request.is_get() ? "GET" : std::string_view(request.command().args[0].text);
      const bool has_key = request.is_get() || request.command().key != Command::kNoKey;
      return finish(request, Failure::kDenied,
                    fmt::format("Redis at {} does not let the user '{}' run {}{}: {}.", node.name,
                                user.empty() ? "default" : user, command, has_key ? " on this key" : "", quoted(reply.text())));
    }
    case ServerError::kOutOfMemory:
      return finish(request, Failure::kNoRoom, message("has no memory left"));
    default:
      break;
  }
  Failure failure = failure_of(info.error);
  // Proxies say in words of their own that the server behind them is gone.
  if (mode_ == Mode::kProxy && failure == Failure::kRefused &&
      (reply.text().starts_with("ERR Connection") || reply.text().starts_with("ERR Host is down") ||
       reply.text().find("upstream") != std::string_view::npos))
    failure = Failure::kUnavailable;
  finish(request, failure, message("refuses a command"));
}

void Engine::retry_later(Node&, Request request, ServerError error, const std::string& message) {
  const Clock::time_point now = Clock::now();
  const bool one_server = mode_ != Mode::kCluster;
  if (one_server || request.of_replica || now < cluster_down_until_ || request.repeats >= kMaxTries) {
    // So long a failover takes: the next batches must not wait for it all over.
    if (!one_server && error != ServerError::kTryAgain && now >= cluster_down_until_)
      cluster_down_until_ = now + std::chrono::seconds(1);
    return finish(request, Failure::kUnavailable, message);
  }
  if (error != ServerError::kTryAgain) refresh();
  request.asking = false;
  delay(request, kFirstDelay * (1 << request.repeats++));
}

void Engine::closed(Connection& connection, Closing closing, std::vector<Request> unanswered) {
  Lane& lane = *static_cast<Lane*>(connection.context);
  Node& node = *lane.node;
  graveyard_.push_back(std::move(lane.connection));
  std::deque<Request> queue = std::exchange(lane.queue, {});
  const bool broke = closing.why == Closing::Why::kEnded && closing.was_ready;
  if (!broke && closing.why != Closing::Why::kLocal) {
    if (node.breaker.closed() && node.seed == Node::Seed::kNo)
      log(LogLevel::kWarning, "{} It is left alone for a while.", closing.message);
    if (node.breaker.closed()) node.failed_at = Clock::now();
    node.breaker.failure(Clock::now());
  }
  if (closing.why != Closing::Why::kLocal) {
    node.failure = failure_of(closing.why);
    node.problem = closing.message;
  }
  if (node.seed != Node::Seed::kNo) seed_failed(node, closing);
  if (map_ && closing.why != Closing::Why::kLocal && !(broke && unanswered.empty())) refresh();

  for (Request& request : unanswered) {
    if (request.batch->internal || closing.why == Closing::Why::kLocal) {
      finish(request, failure_of(closing.why), closing.message);
    } else if (!request.repeatable()) {
      finish(request, Failure::kTimeout, closing.message + " The command may have run.");
    } else if (request.repeats++ < kMaxRepeats) {
      enqueue(request);
    } else {
      finish(request, failure_of(closing.why), closing.message);
    }
  }
  for (Request& request : queue) {
    if (request.batch->internal || closing.why == Closing::Why::kLocal)
      finish(request, failure_of(closing.why), closing.message);
    else
      enqueue(request);
  }
}

Credentials Engine::credentials() {
  Credentials current;
  {
    const std::lock_guard lock(mutex_);
    current = credentials_;
  }
  if (options_.password_file.empty() || !current.password.empty()) return current;
  try {
    auto text = read_small_file(options_.password_file);
    if (!text) log(LogLevel::kError, "redis: password_file '{}' is not there.", options_.password_file);
    current.password = std::move(text).value_or("");
    while (!current.password.empty() && (current.password.back() == '\n' || current.password.back() == '\r'))
      current.password.pop_back();
  } catch (const ConfigError& error) {
    log(LogLevel::kError, "redis: password_file: {}", error.what());
  }
  return current;
}

void Engine::watch(Connection& connection, int fd, std::uint32_t events) { reactor_.watch(fd, events, &connection); }

void Engine::resolve(const Address& address,
                     std::function<void(std::vector<SocketAddress>, std::string problem)> resolved) {
  // Resolvers block for as long as they like: not on this thread.
  const BlockSignals blocked;
  try {
    std::thread([address, resolved, engine = weak_from_this()] {
      std::string problem;
      auto addresses = resolve_addresses(address, problem);
      if (const auto self = engine.lock())
        self->post([resolved, addresses = std::move(addresses), problem] { resolved(addresses, problem); });
    }).detach();
  } catch (const std::system_error&) {
    post([resolved] { resolved({}, "the system refuses a thread"); });
  }
}

}  // namespace alnair::redis
