// A client of Redis and Valkey: a cluster, one server, or a proxy in front of them. The one seam over Redis: tests
// implement redis::Client to fake a server.
//
// Commands go to the node that serves their key, all nodes at once, pipelined from one event-loop thread that is
// started at first use. Nothing here throws for what goes wrong between here and the servers: every command ends once,
// with a reply or with a Failure that says what the caller does next. A missing key is a reply (nil), not a failure.
//
// Every command ends within CallOptions::deadline, whatever the servers do. A node that does not answer for
// Options::timeout is cut off; from then on what is meant for it fails at once, until a probe finds it well again.
//
// Order: commands of one batch may run in any order, also when they are about one key. Replies come in the order in
// which they arrive.
//
// Thread safety: all methods may be called from any thread at once, from callbacks too (but for call() and the like,
// which wait). Callbacks run on the client's thread, must be quick, and must not block or throw. They may end the
// client. Fork: a forked child makes its own connections at first use; what was in flight in the parent ends there
// only.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/core/bytes.h"
#include "redis/reply.h"
#include "redis/url.h"

namespace alnair::redis {

// Why there is no reply, by what the caller does next.
enum class Failure {
  kNone,
  kUnavailable,  // go on without: the node is down, loading, cut off or partitioned; it may be back in seconds
  kTimeout,      // the same, after waiting; a command that is not repeatable may have run
  kNoRoom,       // write elsewhere: Redis is at its maxmemory and evicts nothing (OOM)
  kDenied,       // fix the configuration: wrong password, or an ACL without the command or key (the message names it)
  kUnsupported,  // do not ask again: the server or proxy has no such command, or it is no server that we can use
  kRefused,      // the server refuses this very command (wrong type, script error...)
  kCancelled,    // the client was closed
};
std::string_view to_string(Failure failure);

struct Result {
  Failure failure = Failure::kNone;
  Reply reply = {};          // when it is kNone; never of type kError at the top
  std::string message = {};  // else: a sentence that names the endpoint; no secret

  bool ok() const { return failure == Failure::kNone; }
};

// A script, sent by its SHA-1 and in full to a node that does not know it yet. Make one for the life of the program.
class Script {
 public:
  explicit Script(std::string source);
  const std::string& source() const { return source_; }
  const std::string& sha1() const { return sha1_; }  // 40 hex digits

 private:
  std::string source_;
  std::string sha1_;
};

// One argument: a text, bytes that are sent from where they are, or both, one after the other (a header and a chunk).
struct Argument {
  Argument(std::string value) : text(std::move(value)) {}  // NOLINT: implicit, so that {"SET", key, view} is a command
  Argument(std::string_view value) : text(value) {}        // NOLINT
  Argument(const char* value) : text(value) {}             // NOLINT
  Argument(View value) : bytes(std::move(value)) {}        // NOLINT
  Argument(std::string head, View rest) : text(std::move(head)), bytes(std::move(rest)) {}
  std::uint64_t size() const { return text.size() + bytes.size(); }

  std::string text = {};
  View bytes = {};
};

struct Command {
  static constexpr std::size_t kNoKey = ~std::size_t{0};

  std::vector<Argument> args;
  std::size_t key = 1;             // index in `args` of the key (a text) that decides the node; kNoKey: any master
  std::string node = {};           // not empty: this node, as NodeResult::node names it, whatever the key
  bool repeatable = true;          // may be sent again when it is unknown whether it ran
  bool of_replica = false;         // a read: while its master is gone, a replica may answer, as it may to get()
  const Script* script = nullptr;  // set by of_script(); outlives the command

  // EVALSHA, with EVAL when the node does not know the script. All keys must be of one slot; keys[0] decides the node.
  static Command of_script(const Script& script, std::vector<Argument> keys, std::vector<Argument> args);
};

struct CallOptions {
  std::chrono::milliseconds deadline{0};  // for each command, with all its waiting; 0: Options::deadline
  std::uint64_t expected_bytes = 0;       // of one reply, about; 0: what this node's replies were lately
  std::uint64_t body_offset = 0;          // of get(), the length of a header: the byte after it is aligned to 64
  std::uint64_t most_bytes = 0;           // of get(): a longer value is received, dropped, and arrives as an empty one; 0: 512 MiB
};

struct NodeResult {
  std::string node;  // "10.0.0.1:6379"
  Result result;
};

struct Version {
  int major = 0, minor = 0, patch = 0;
  auto operator<=>(const Version&) const = default;
  std::string text() const;
};

// What the servers say of themselves. What one would not tell (a proxy; an ACL without CONFIG or INFO) is empty or 0.
struct ServerFacts {
  Mode mode = Mode::kAuto;  // never kAuto once known
  std::string product;      // "redis", "valkey"
  Version version;          // the oldest among the masters
  int masters = 0;
  std::string maxmemory_policy;   // of all masters; "mixed" when they differ
  std::uint64_t maxmemory = 0;    // bytes, summed over the masters; 0: no limit, or unknown
  std::uint64_t used_memory = 0;  // bytes, summed over the masters
  std::uint64_t keys = 0, expiring_keys = 0;  // of all names; the latter have an expiry
  std::uint64_t evicted_keys = 0;             // since each server's start
};

class Client {
 public:
  virtual ~Client() = default;  // ends what is in flight with kCancelled

  // Runs exactly once for each index of the batch.
  using Done = std::function<void(std::size_t index, Result&& result)>;

  // Sends all, returns at once.
  virtual void run(std::vector<Command> commands, Done done, const CallOptions& options = {}) = 0;

  // GET of every key. Values (kBulk) are received straight into the views handed over, each a block of its own.
  virtual void get(std::vector<std::string> keys, Done done, const CallOptions& options = {}) = 0;

  // The command (its `key` and `node` do not count) to every master, `done` once with what each answered. One element
  // without a node and with a failure when the masters are not known. kUnsupported through a proxy.
  using DoneOnMasters = std::function<void(std::vector<NodeResult>&& results)>;
  virtual void run_on_masters(Command command, DoneOnMasters done, const CallOptions& options = {}) = 0;

  // Asks the servers; with a failure the facts are what is known.
  using DoneWithFacts = std::function<void(ServerFacts&& facts, Result&& result)>;
  virtual void facts(DoneWithFacts done, const CallOptions& options = {}) = 0;

  // For new connections; those that are open authenticate anew. An empty `user` is "default".
  virtual void set_credentials(std::string user, std::string password) = 0;

  virtual const Options& options() const = 0;

  // The same, waiting. `interrupt` (may be empty) is called every 100 ms; if it throws, the waiting ends with that (the
  // commands go on). Not to be called from a callback.
  std::vector<Result> call(std::vector<Command> commands, const CallOptions& options = {},
                           const std::function<void()>& interrupt = {});
  Result call(Command command, const CallOptions& options = {}, const std::function<void()>& interrupt = {});
  std::vector<Result> call_get(std::vector<std::string> keys, const CallOptions& options = {},
                               const std::function<void()>& interrupt = {});
  std::vector<NodeResult> call_on_masters(Command command, const CallOptions& options = {},
                                          const std::function<void()>& interrupt = {});

  // Waits for the facts. Throws ConfigError or AccessError for what no waiting mends (not a cluster, seeds of two
  // clusters, a server that is too old, a wrong password), TimeoutError or CacheError otherwise.
  ServerFacts check(const CallOptions& options = {}, const std::function<void()>& interrupt = {});

  // Visits the keys of every master that match the glob `pattern`, about `count` a round trip, and waits. `visit` may
  // get a key twice, runs on the calling thread, and may block; false ends the sweep. The first failure, if any.
  Result scan(const std::string& pattern, int count, const std::function<bool(std::vector<std::string>&& keys)>& visit,
              const CallOptions& options = {});
};

// Opens nothing yet: connections and the thread are made by the first command. Throws ConfigError for a malformed URL
// (redis/url.h) and for TLS files that cannot be read.
std::shared_ptr<Client> open(std::string_view url);
std::shared_ptr<Client> open(const Options& options);

}  // namespace alnair::redis
