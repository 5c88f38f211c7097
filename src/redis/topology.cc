// How an engine finds the nodes, and keeps knowing them.
//
// Discovery: every seed is greeted, all at once. The first that works decides the mode and gives the first map; the
// others are compared with it. Refresh: one question at a time to a node that works; all who wait for a new map wait
// for that one.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "redis/engine.h"

namespace alnair::redis {
namespace {

using std::chrono::milliseconds;

constexpr auto kAfterRenewal = milliseconds(200);  // until the map may be asked for again
constexpr auto kAfterNoRenewal = milliseconds(500);

// The larger, the more it tells about what is wrong.
int weight(Failure failure) {
  switch (failure) {
    case Failure::kDenied:
      return 4;
    case Failure::kUnsupported:
      return 3;
    case Failure::kTimeout:
      return 2;
    default:
      return failure == Failure::kNone ? 0 : 1;
  }
}

}  // namespace

Engine::Node& Engine::node_at(const Address& address) {
  for (const auto& node : nodes_)
    if (node->address == address) return *node;
  auto node = std::make_unique<Node>();
  node->address = address;
  node->name = address.text();
  node->style = options_.mode == Mode::kProxy ? Connection::Style::kProxy : Connection::Style::kDirect;
  for (const LaneId id : {kValues, kCommands}) {
    node->lanes[id].node = node.get();
    node->lanes[id].id = id;
  }
  nodes_.push_back(std::move(node));
  return *nodes_.back();
}

// Null: nobody serves it.
Engine::Node* Engine::route(const Request& request) {
  if (!request.is_get() && !request.command().node.empty()) {
    for (const auto& node : nodes_)
      if (node->name == request.command().node && map_->serves(node->address)) return node.get();
    return nullptr;
  }
  if (mode_ == Mode::kProxy) {
    // Any proxy will do; those that work first.
    Node* any = nullptr;
    for (std::size_t i = 0; i < options_.seeds.size(); ++i) {
      Node& node = node_at(options_.seeds[(request.slot + i) % options_.seeds.size()]);
      if (node.breaker.closed() && node.style == Connection::Style::kProxy) return &node;
      if (any == nullptr) any = &node;
    }
    return any;
  }
  const Address* owner = map_->owner(request.slot);
  return owner != nullptr ? &node_at(*owner) : nullptr;
}

Engine::Node* Engine::replica_of(std::uint16_t slot) {
  const auto replicas = map_->replicas(slot);
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    Node& node = node_at(replicas[(slot + i) % replicas.size()]);
    if (node.breaker.closed() && Clock::now() >= node.pause_until) return &node;
  }
  return nullptr;
}

void Engine::open(Lane& lane) {
  lane.connection = std::make_unique<Connection>(*this, options_, tls_.get(), lane.node->address, lane.node->style);
  lane.connection->context = &lane;
  unready_ = true;
  lane.connection->start();
}

// Whether a node that was left alone works again: if it can be greeted.
void Engine::probe(Node& node) {
  Lane& lane = node.lanes[kValues];
  if (lane.connection && !lane.connection->is_ready()) return;  // that one tells
  if (lane.connection) lane.connection->close(Closing::Why::kEnded, "was left alone");
  open(lane);
}

void Engine::ready(Connection& connection, const Greeting& greeting) {
  Lane& lane = *static_cast<Lane*>(connection.context);
  Node& node = *lane.node;
  if (!node.breaker.closed()) log(LogLevel::kInfo, "Redis at {} works again.", node.name);
  node.breaker.success();
  node.greeting = greeting;
  node.greeted = true;
  if (node.seed == Node::Seed::kGreeting) seed_greeted(node);
  if (!std::exchange(lane.touched, true)) touched_.push_back(&lane);
}

// ---- discovery

void Engine::discover() {
  if (seeds_left_ > 0) return;
  if (!discovery_.closed() && !discovery_.take_probe(Clock::now())) {
    for (const Request& request : std::exchange(parked_, {})) finish(request, seed_failure_, seed_problem_);
    return;
  }
  seed_failure_ = Failure::kNone;
  seeds_left_ = options_.seeds.size();
  for (const Address& seed : options_.seeds) node_at(seed).seed = Node::Seed::kGreeting;
  for (const Address& seed : options_.seeds) {
    Node& node = node_at(seed);
    Lane& lane = node.lanes[kCommands];
    if (lane.connection && lane.connection->is_ready())
      seed_greeted(node);
    else if (!lane.connection)
      open(lane);
  }
}

void Engine::seed_greeted(Node& node) {
  node.seed = Node::Seed::kAsked;
  const auto fails = [&](const char* what) {
    seed_fails(node, Failure::kUnsupported, fmt::format("Redis at {} {}.", node.name, what));
  };
  if (node.style == Connection::Style::kProxy) {
    if (options_.mode == Mode::kProxy) return seed_found(node, Mode::kProxy, SlotMap::of_one(node.address));
    // Some server that does not greet as Redis does: what it must be able to do is GET.
    return ask(node, {.args = {"GET", options_.key_namespace + ":"}}, patience(), [this, &node](Result&& result) {
      if (result.ok() || result.failure == Failure::kUnavailable)
        return seed_found(node, Mode::kProxy, SlotMap::of_one(node.address));
      seed_fails(node, result.failure, std::move(result.message));
    });
  }
  // A proxy that greets for itself (Envoy: "envoy-redis-proxy"). What it tells of INFO and SCAN is one server's behind it.
  if (options_.mode == Mode::kAuto && node.greeting.product.find("proxy") != std::string::npos) {
    node.style = Connection::Style::kProxy;
    return seed_found(node, Mode::kProxy, SlotMap::of_one(node.address));
  }
  const std::string& mode = node.greeting.mode;
  if (mode == "sentinel") return fails("is a Sentinel, not a server with data");
  const bool cluster = mode == "cluster";
  if (options_.mode == Mode::kCluster && !cluster) return fails("is not part of a cluster, and mode=cluster wants one");
  if (options_.mode == Mode::kStandalone && cluster)
    return fails("is part of a cluster, whose other nodes mode=standalone does not reach");
  if (!cluster) return seed_found(node, Mode::kStandalone, SlotMap::of_one(node.address));
  ask_for_map(node, [this, &node](std::optional<SlotMap> map, Result&& result) {
    if (map) return seed_found(node, Mode::kCluster, *std::move(map));
    seed_fails(node, result.failure, std::move(result.message));
  });
}

// The connection ended before that.
void Engine::seed_failed(Node& node, const Closing& closing) {
  const bool no_redis =
      closing.why == Closing::Why::kNotRedis || (closing.why == Closing::Why::kEnded && closing.silent);
  if (node.style == Connection::Style::kDirect && options_.mode == Mode::kAuto && no_redis) {
    // Proxies end the connection at a command that they do not know, as HELLO.
    node.style = Connection::Style::kProxy;
    node.seed = Node::Seed::kGreeting;
    node.breaker.success();
    return open(node.lanes[kCommands]);
  }
  if (node.seed == Node::Seed::kAsked && !closing.silent) return;  // the question fails, and says so
  if (node.style == Connection::Style::kProxy && options_.mode == Mode::kAuto) node.style = Connection::Style::kDirect;
  if (closing.silent && closing.why == Closing::Why::kEnded)
    return seed_fails(node, Failure::kUnsupported,
                      fmt::format("Redis at {} ended the connection at the first command ({}).", node.name,
                                  options_.tls ? "it may want a certificate of ours that it trusts: tls_cert and tls_key"
                                               : "a server with TLS is rediss://, not redis://"));
  seed_fails(node, failure_of(closing.why), closing.message);
}

void Engine::seed_fails(Node& node, Failure failure, std::string message) {
  if (node.seed == Node::Seed::kNo) return;
  if (weight(failure) > weight(seed_failure_)) {
    seed_failure_ = failure;
    seed_problem_ = std::move(message);
  }
  seed_done(node);
}

void Engine::seed_found(Node& node, Mode mode, SlotMap map) {
  if (node.seed == Node::Seed::kNo) return;
  if (!map_) {
    mode_ = mode;
    discovery_.success();
    adopt(std::move(map));
    resume_parked();
  } else if (mode != mode_ || (mode == Mode::kCluster && !map.same_cluster(*map_)) ||
             (mode == Mode::kStandalone && !map_->serves(node.address))) {
    misconfigured_ = fmt::format("The Redis servers {} and {} do not belong together: {}.", node.name,
                                 map_->masters().front().address.text(),
                                 mode == Mode::kCluster && mode == mode_ ? "they are of two clusters"
                                 : mode == mode_                         ? "they are two servers, and no cluster"
                                                                         : "they are of different kinds");
    log(LogLevel::kError, "{}", misconfigured_);
  }
  seed_done(node);
}

void Engine::seed_done(Node& node) {
  node.seed = Node::Seed::kNo;
  if (--seeds_left_ > 0) return;
  if (!map_) {
    discovery_.failure(Clock::now());
    for (const Request& request : std::exchange(parked_, {})) finish(request, seed_failure_, seed_problem_);
  }
  for (const auto& waiter : std::exchange(waiters_, {})) waiter();
}

void Engine::when_known(std::function<void()> task) {
  if (closing_ || (map_ && seeds_left_ == 0)) return task();
  waiters_.push_back(std::move(task));
  if (map_) return;
  discover();
  if (seeds_left_ > 0 || map_) return;
  for (const auto& waiter : std::exchange(waiters_, {})) waiter();  // it failed a moment ago
}

void Engine::resume_parked() {
  for (const Request& request : std::exchange(parked_, {})) enqueue(request);
}

// ---- the map

void Engine::ask_for_map(Node& node, std::function<void(std::optional<SlotMap>, Result&&)> done) {
  const Address asked = node.address;
  auto by_slots = [this, &node, asked, done] {
    ask(node, {.args = {"CLUSTER", "SLOTS"}, .key = Command::kNoKey}, patience(), [asked, done](Result&& result) {
      auto map = result.ok() ? SlotMap::from_slots(result.reply, asked) : std::nullopt;
      if (!map && result.ok())
        result = {.failure = Failure::kUnsupported,
                  .message = fmt::format("Redis at {} does not answer CLUSTER SLOTS as Redis does.", asked.text())};
      done(std::move(map), std::move(result));
    });
  };
  if (node.greeting.version < Version{7, 0, 0}) return by_slots();
  ask(node, {.args = {"CLUSTER", "SHARDS"}, .key = Command::kNoKey}, patience(),
      [this, asked, done, by_slots](Result&& result) {
        auto map = result.ok() ? SlotMap::from_shards(result.reply, asked, options_.tls) : std::nullopt;
        if (map) return done(std::move(map), std::move(result));
        if (result.ok() || result.failure == Failure::kUnsupported || result.failure == Failure::kDenied)
          return by_slots();
        done(std::nullopt, std::move(result));
      });
}

// True: a new map is on its way, or one that is new enough to make a difference; parked requests are resumed with it.
bool Engine::refresh() {
  if (mode_ != Mode::kCluster || !map_) return false;
  if (refreshing_) return true;
  const Clock::time_point now = Clock::now();
  if (now < next_refresh_) return false;
  refreshing_ = true;
  refresh_until_ = now + options_.timeout;
  candidates_.clear();
  for (const SlotMap::Master& master : map_->masters()) candidates_.push_back(master.address);
  if (!candidates_.empty())
    std::rotate(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(++turn_ % candidates_.size()),
                candidates_.end());
  for (const Address& seed : options_.seeds)
    if (std::find(candidates_.begin(), candidates_.end(), seed) == candidates_.end()) candidates_.push_back(seed);
  std::reverse(candidates_.begin(), candidates_.end());  // they are taken from the end
  reactor_.after({}, [this] { ask_next_for_map(); });    // not from within what noticed the need
  return true;
}

// Likewise for a node that failed after the map had come, which is too new to be asked for again at once: as when servers are
// restarted one after the other, each after its replica has taken over.
bool Engine::refresh_soon(const Node& failed) {
  if (!renewed_ || failed.failed_at <= last_refresh_) return false;
  if (!std::exchange(refresh_planned_, true))
    reactor_.after(next_refresh_ - Clock::now(), [this] {
      refresh_planned_ = false;
      if (!refresh()) resume_parked();
    });
  return true;
}

void Engine::ask_next_for_map() {
  while (!candidates_.empty() && Clock::now() < refresh_until_) {
    Node& node = node_at(candidates_.back());
    candidates_.pop_back();
    if (!node.breaker.closed() && !node.breaker.take_probe(Clock::now())) continue;
    return ask_for_map(node, [this](std::optional<SlotMap> map, Result&&) {
      if (!map || map->masters().empty()) return ask_next_for_map();
      adopt(*std::move(map));
      end_refresh(true);
    });
  }
  end_refresh(false);
}

void Engine::end_refresh(bool renewed) {
  refreshing_ = false;
  renewed_ = renewed;
  next_refresh_ = Clock::now() + (renewed ? kAfterRenewal : kAfterNoRenewal);
  resume_parked();
}

void Engine::adopt(SlotMap map) {
  map_ = std::move(map);
  last_refresh_ = Clock::now();
  // What no longer serves, and has nothing to do, goes.
  const auto is_seed = [&](const Address& address) {
    return std::find(options_.seeds.begin(), options_.seeds.end(), address) != options_.seeds.end();
  };
  for (const auto& node : nodes_) {
    if (map_->serves(node->address) || map_->has_replica(node->address) || node->seed != Node::Seed::kNo || mode_ == Mode::kProxy) continue;
    for (Lane& lane : node->lanes)
      if (lane.connection && lane.queue.empty() && lane.connection->idle())
        lane.connection->close(Closing::Why::kLocal, "serves no slots");
  }
  std::erase_if(nodes_, [&](const std::unique_ptr<Node>& node) {
    if (map_->serves(node->address) || map_->has_replica(node->address) || is_seed(node->address)) return false;
    return std::all_of(node->lanes.begin(), node->lanes.end(),
                       [](const Lane& lane) { return !lane.connection && lane.queue.empty() && !lane.touched; });
  });
}

}  // namespace alnair::redis
