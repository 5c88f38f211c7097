#include "redis/client.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "alnair/core/error.h"
#include "core/end_at_exit.h"
#include "core/fork.h"
#include "redis/engine.h"

namespace alnair::redis {
namespace {

using std::chrono::milliseconds;

// An engine while its client lives. Stops it at the end.
class Running {
 public:
  explicit Running(std::shared_ptr<Engine> engine)
      : engine_(std::move(engine)), at_exit_([engine = engine_] { engine->stop(); }) {}
  ~Running() { engine_->stop(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Engine* operator->() const { return engine_.get(); }

 private:
  const std::shared_ptr<Engine> engine_;
  const EndAtExit at_exit_;
};

class RealClient final : public Client {
 public:
  explicit RealClient(const Options& options)
      : options_(options),
        tls_(options.tls ? std::make_shared<const TlsContext>(options) : nullptr),
        credentials_(new Credentials{options.user, options.password, nullptr}),
        engine_([this] { return start_engine(); }) {}

  ~RealClient() override {
    for (const Credentials* each = credentials_.load(); each != nullptr;) delete std::exchange(each, each->before);
  }

  void run(std::vector<Command> commands, Done done, const CallOptions& options) override {
    auto batch = std::make_unique<Batch>();
    batch->commands = std::move(commands);
    submit(std::move(batch), std::move(done), options);
  }

  void get(std::vector<std::string> keys, Done done, const CallOptions& options) override {
    auto batch = std::make_unique<Batch>();
    batch->keys = std::move(keys);
    submit(std::move(batch), std::move(done), options);
  }

  void run_on_masters(Command command, DoneOnMasters done, const CallOptions& options) override {
    try {
      (*engine_.get())->run_on_masters(std::move(command), std::move(done), options);
    } catch (const CacheError& error) {
      done({{"", refused(error)}});
    }
  }

  void facts(DoneWithFacts done, const CallOptions& options) override {
    try {
      (*engine_.get())->facts(std::move(done), options);
    } catch (const CacheError& error) {
      done({}, refused(error));
    }
  }

  // Old ones are kept until the end: another thread, or a child of a fork, may be reading them, and no lock must be
  // held across a fork.
  void set_credentials(std::string user, std::string password) override {
    auto* const fresh = new Credentials{std::move(user), std::move(password), credentials_.load()};
    while (!credentials_.compare_exchange_weak(fresh->before, fresh)) {
    }
    if (const auto running = engine_.peek()) (*running)->set_credentials({fresh->user, fresh->password});
  }

  const Options& options() const override { return options_; }

 private:
  struct Credentials {
    std::string user, password;
    const Credentials* before;
  };

  std::shared_ptr<Running> start_engine() const {
    OPENSSL_init_ssl(0, nullptr);  // its handler of exit() comes before ours, and so runs after it
    const Credentials* const now = credentials_.load();
    return std::make_shared<Running>(Engine::start(options_, tls_, {now->user, now->password}));
  }

  void submit(std::unique_ptr<Batch> batch, Done done, const CallOptions& options) {
    batch->done = std::move(done);
    batch->options = options;
    try {
      (*engine_.get())->submit(std::move(batch));
    } catch (const CacheError& error) {
      for (std::size_t i = 0; i < batch->size(); ++i) batch->done(i, refused(error));
    }
  }

  static Result refused(const CacheError& error) { return {.failure = Failure::kUnavailable, .message = error.what()}; }

  const Options options_;
  const std::shared_ptr<const TlsContext> tls_;
  std::atomic<const Credentials*> credentials_;
  ForkLocal<Running> engine_;
};

// What a waiting call and its callbacks share; the call may end first.
template <typename T>
class Waiting {
 public:
  explicit Waiting(std::size_t expected) : left_(expected) {}

  template <typename Store>
  void arrived(Store store) {
    const std::lock_guard lock(mutex_);
    store(value_);
    if (--left_ == 0) all_.notify_all();
  }

  T wait(const std::function<void()>& interrupt) {
    std::unique_lock lock(mutex_);
    while (!all_.wait_for(lock, milliseconds(100), [&] { return left_ == 0; })) {
      if (!interrupt) continue;
      lock.unlock();
      interrupt();
      lock.lock();
    }
    return std::move(value_);
  }

  T value_;  // before the first arrived(), whoever made this may fill it

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  std::size_t left_;
};

}  // namespace

std::string_view to_string(Failure failure) {
  switch (failure) {
    case Failure::kNone:
      return "none";
    case Failure::kUnavailable:
      return "unavailable";
    case Failure::kTimeout:
      return "timeout";
    case Failure::kNoRoom:
      return "no room";
    case Failure::kDenied:
      return "denied";
    case Failure::kUnsupported:
      return "unsupported";
    case Failure::kRefused:
      return "refused";
    case Failure::kCancelled:
      break;
  }
  return "cancelled";
}

std::string Version::text() const { return fmt::format("{}.{}.{}", major, minor, patch); }

Script::Script(std::string source) : source_(std::move(source)) {
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  SHA1(reinterpret_cast<const unsigned char*>(source_.data()), source_.size(), digest.data());
  for (const unsigned char byte : digest) sha1_ += fmt::format("{:02x}", byte);
}

Command Command::of_script(const Script& script, std::vector<Argument> keys, std::vector<Argument> args) {
  Command command;
  command.script = &script;
  command.key = keys.empty() ? kNoKey : 3;
  command.args = {"EVALSHA", script.sha1(), std::to_string(keys.size())};
  for (auto* list : {&keys, &args})
    for (Argument& each : *list) command.args.push_back(std::move(each));
  return command;
}

std::vector<Result> Client::call(std::vector<Command> commands, const CallOptions& options,
                                 const std::function<void()>& interrupt) {
  if (commands.empty()) return {};
  const auto waiting = std::make_shared<Waiting<std::vector<Result>>>(commands.size());
  waiting->value_.resize(commands.size());
  run(
      std::move(commands),
      [waiting](std::size_t i, Result&& result) {
        waiting->arrived([&](auto& results) { results[i] = std::move(result); });
      },
      options);
  return waiting->wait(interrupt);
}

Result Client::call(Command command, const CallOptions& options, const std::function<void()>& interrupt) {
  std::vector<Command> commands;
  commands.push_back(std::move(command));
  return std::move(call(std::move(commands), options, interrupt).front());
}

std::vector<Result> Client::call_get(std::vector<std::string> keys, const CallOptions& options,
                                     const std::function<void()>& interrupt) {
  if (keys.empty()) return {};
  const auto waiting = std::make_shared<Waiting<std::vector<Result>>>(keys.size());
  waiting->value_.resize(keys.size());
  get(
      std::move(keys),
      [waiting](std::size_t i, Result&& result) {
        waiting->arrived([&](auto& results) { results[i] = std::move(result); });
      },
      options);
  return waiting->wait(interrupt);
}

std::vector<NodeResult> Client::call_on_masters(Command command, const CallOptions& options,
                                                const std::function<void()>& interrupt) {
  const auto waiting = std::make_shared<Waiting<std::vector<NodeResult>>>(1);
  run_on_masters(
      std::move(command),
      [waiting](std::vector<NodeResult>&& all) { waiting->arrived([&](auto& results) { results = std::move(all); }); },
      options);
  return waiting->wait(interrupt);
}

ServerFacts Client::check(const CallOptions& options, const std::function<void()>& interrupt) {
  const auto waiting = std::make_shared<Waiting<std::pair<ServerFacts, Result>>>(1);
  facts(
      [waiting](ServerFacts&& found, Result&& result) {
        waiting->arrived([&](auto& both) { both = {std::move(found), std::move(result)}; });
      },
      options);
  auto [found, result] = waiting->wait(interrupt);
  switch (result.failure) {
    case Failure::kNone:
      return found;
    case Failure::kDenied:
      throw AccessError(result.message);
    case Failure::kUnsupported:
    case Failure::kRefused:
      throw ConfigError(result.message);
    case Failure::kTimeout:
      throw TimeoutError(result.message);
    case Failure::kCancelled:
      throw CancelledError(result.message);
    default:
      throw CacheError(result.message);
  }
}

Result Client::scan(const std::string& pattern, int count,
                    const std::function<bool(std::vector<std::string>&& keys)>& visit, const CallOptions& options) {
  Command first{.args = {"SCAN", "0", "MATCH", pattern, "COUNT", std::to_string(count)}};
  std::vector<NodeResult> nodes = call_on_masters(first, options);
  for (NodeResult& node : nodes) {
    Result result = std::move(node.result);
    while (true) {
      if (!result.ok()) return result;
      auto& parts = result.reply.elements;
      if (parts.size() != 2)
        return {.failure = Failure::kRefused, .message = fmt::format("Redis at {} does not answer SCAN.", node.node)};
      std::vector<std::string> keys;
      for (const Reply& key : parts[1].elements) keys.emplace_back(key.text());
      const std::string cursor(parts[0].text());
      if (!keys.empty() && !visit(std::move(keys))) return {};
      if (cursor == "0") break;
      result = call(Command{.args = {"SCAN", cursor, "MATCH", pattern, "COUNT", std::to_string(count)},
                            .key = Command::kNoKey,
                            .node = node.node},
                    options);
    }
  }
  return {};
}

std::shared_ptr<Client> open(std::string_view url) { return open(parse_url(url)); }
std::shared_ptr<Client> open(const Options& options) { return std::make_shared<RealClient>(options); }

}  // namespace alnair::redis
