// What a client is in one process: the event-loop thread, the nodes, and where each request goes.
//
// A request waits, in this order, for the topology (parked_), for its node's connection and its window (Lane::queue),
// for the reply (in the connection), and, between attempts, for time to pass (delayed_). Everywhere its batch's
// deadline finds it. topology.cc has how the nodes are found, engine.cc what happens to requests.
//
// Thread safety: the public methods may be called from any thread; all else happens on the loop's thread.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "redis/breaker.h"
#include "redis/connection.h"
#include "redis/reactor.h"
#include "redis/slot_map.h"

namespace alnair::redis {

class Engine final : public ConnectionOwner, public std::enable_shared_from_this<Engine> {
 public:
  // Starts the thread. Throws CacheError when the system refuses a thread or descriptor.
  static std::shared_ptr<Engine> start(const Options& options, std::shared_ptr<const TlsContext> tls,
                                       const Credentials& credentials);
  ~Engine() override;

  // Ends everything with kCancelled, and the thread; waits for it, but on the thread itself.
  void stop();

  // `batch->deadline` and `left` are set here.
  void submit(std::unique_ptr<Batch> batch);
  void run_on_masters(Command command, Client::DoneOnMasters done, const CallOptions& options);
  void facts(Client::DoneWithFacts done, const CallOptions& options);
  void set_credentials(const Credentials& credentials);

 private:
  // Small commands do not wait behind the values that a batch of GETs brings: two connections a node, made when needed.
  enum LaneId : std::size_t { kValues, kCommands, kLanes };
  struct Node;
  struct Lane {
    Node* node = nullptr;
    LaneId id = kValues;
    std::unique_ptr<Connection> connection;
    std::deque<Request> queue;
    bool touched = false;  // in touched_
  };
  struct Node {
    Address address;
    std::string name;
    std::array<Lane, kLanes> lanes;
    Breaker breaker;
    Clock::time_point pause_until{};          // it said that it is loading, or busy
    Failure failure = Failure::kUnavailable;  // why it is left alone
    std::string problem;
    Clock::time_point failed_at{};
    Greeting greeting;
    bool greeted = false;
    Connection::Style style = Connection::Style::kDirect;
    enum class Seed { kNo, kGreeting, kAsked } seed = Seed::kNo;  // part of the discovery that goes on
    std::uint64_t typical_reply = 64 << 10;                       // bytes of a value, lately
  };
  struct Delayed {
    Clock::time_point due;
    Request request;
  };

  Engine(const Options& options, std::shared_ptr<const TlsContext> tls, const Credentials& credentials);
  void run();
  bool post(std::function<void()> task);  // false: the thread is gone, and the task with it
  void take_tasks();
  void tick(Clock::time_point now);
  void shut_down();

  // Requests.
  void accept(std::unique_ptr<Batch> batch);
  void enqueue(Request request);
  void put(Node& node, Request request, bool first = false);
  void pump(Lane& lane);
  void pump_touched();
  void delay(Request request, Clock::duration how_long);
  void finish(Request request, Failure failure, std::string message);
  void finish(Request request, Reply&& reply);
  void end(Request request, Result&& result);
  void expire(Batch* batch, Failure failure, const char* message);
  void reroute_or_fail(Node& node, Request request);
  void ask(Node& node, Command command, std::chrono::milliseconds deadline, std::function<void(Result&&)> done);
  void answer_error(Node& node, Connection& connection, Request request, const Reply& reply);
  void retry_later(Node& node, Request request, ServerError error, const std::string& message);

  // Topology.
  Node& node_at(const Address& address);
  Node* route(const Request& request);
  Node* replica_of(std::uint16_t slot);  // one that is not left alone; null: there is none
  void open(Lane& lane);
  void probe(Node& node);
  void discover();
  void seed_greeted(Node& node);
  void seed_failed(Node& node, const Closing& closing);
  void seed_fails(Node& node, Failure failure, std::string message);
  void seed_found(Node& node, Mode mode, SlotMap map);
  void seed_done(Node& node);
  bool refresh();
  bool refresh_soon(const Node& failed);
  void ask_next_for_map();
  void end_refresh(bool renewed);
  void ask_for_map(Node& node, std::function<void(std::optional<SlotMap>, Result&&)> done);
  void adopt(SlotMap map);
  std::chrono::milliseconds patience() const { return 2 * options_.timeout; }  // to connect, and to be answered
  void when_known(std::function<void()> task);
  Result usable() const;  // a failure: what keeps the servers from being used
  void resume_parked();

  // ConnectionOwner.
  void ready(Connection& connection, const Greeting& greeting) override;
  void replied(Connection& connection, Request request, Reply&& reply) override;
  void drained(Connection& connection) override;
  void closed(Connection& connection, Closing closing, std::vector<Request> unanswered) override;
  Credentials credentials() override;
  void watch(Connection& connection, int fd, std::uint32_t events) override;
  void resolve(const Address& address,
               std::function<void(std::vector<SocketAddress>, std::string problem)> resolved) override;

  const Options options_;
  const std::shared_ptr<const TlsContext> tls_;
  Reactor reactor_;
  std::thread thread_;

  std::mutex mutex_;
  std::vector<std::function<void()>> inbox_;  // guarded by mutex_
  bool stopping_ = false;                     // guarded by mutex_
  bool ended_ = false;                        // guarded by mutex_
  Credentials credentials_;                   // guarded by mutex_

  // Of the loop's thread only.
  bool closing_ = false;  // everything ends with kCancelled
  bool unready_ = false;  // there are connections under way
  std::unordered_set<Batch*> batches_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Lane*> touched_;
  std::vector<std::unique_ptr<Connection>> graveyard_;  // closed; destroyed when nobody is inside them
  std::vector<Request> parked_;
  std::vector<Delayed> delayed_;
  Clock::time_point next_tick_{};
  Clock::time_point cluster_down_until_{};

  Mode mode_ = Mode::kAuto;
  std::optional<SlotMap> map_;
  std::string misconfigured_;                   // not empty: seeds that do not belong together
  std::vector<std::function<void()>> waiters_;  // for the end of the discovery
  std::size_t seeds_left_ = 0;                  // of the discovery that goes on
  Breaker discovery_;
  Failure seed_failure_ = Failure::kNone;  // the most telling of the last discovery
  std::string seed_problem_;
  std::size_t turn_ = 0;  // of proxies, and of nodes that are asked for the map

  bool refreshing_ = false;
  bool refresh_planned_ = false;
  bool renewed_ = false;  // by the last refresh
  std::vector<Address> candidates_;
  Clock::time_point refresh_until_{};
  Clock::time_point next_refresh_{};  // not before
  Clock::time_point last_refresh_{};
};

}  // namespace alnair::redis
