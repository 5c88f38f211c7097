// Questions to all masters: what the servers say of themselves.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "redis/engine.h"
#include "redis/info.h"

namespace alnair::redis {
namespace {

std::uint64_t number_after(std::string_view text, std::string_view name) {
  const std::size_t at = text.find(name);
  return at == std::string_view::npos ? 0 : number_of(text.substr(at + name.size()));
}

}  // namespace

Result Engine::usable() const {
  if (closing_) return {.failure = Failure::kCancelled, .message = "The Redis client was closed."};
  if (!map_) return {.failure = seed_failure_, .message = seed_problem_};
  if (!misconfigured_.empty()) return {.failure = Failure::kUnsupported, .message = misconfigured_};
  if (map_->masters().empty())
    return {.failure = Failure::kUnavailable, .message = "No node of the Redis Cluster serves any hash slot."};
  return {};
}

void Engine::run_on_masters(Command command, Client::DoneOnMasters done, const CallOptions& options) {
  struct Answers {
    std::vector<NodeResult> results;
    std::size_t left = 0;
    Client::DoneOnMasters done;
  };
  auto answers = std::make_shared<Answers>();
  answers->done = std::move(done);
  command.key = Command::kNoKey;
  command.node.clear();
  const auto shared = std::make_shared<const Command>(std::move(command));
  const auto deadline = options.deadline.count() > 0 ? options.deadline : options_.deadline;
  const bool posted = post([this, answers, shared, deadline] {
    when_known([this, answers, shared, deadline] {
      Result state = usable();
      if (state.ok() && mode_ == Mode::kProxy)
        state = {.failure = Failure::kUnsupported, .message = "A proxy in front of Redis hides its servers."};
      if (!state.ok()) return answers->done({{"", std::move(state)}});
      const auto masters = map_->masters();
      answers->left = masters.size();
      answers->results.resize(masters.size());
      for (std::size_t i = 0; i < masters.size(); ++i) {
        Node& node = node_at(masters[i].address);
        answers->results[i].node = node.name;
        ask(node, *shared, deadline, [answers, i](Result&& result) {
          answers->results[i].result = std::move(result);
          if (--answers->left == 0) answers->done(std::move(answers->results));
        });
      }
    });
  });
  if (!posted) answers->done({{"", {.failure = Failure::kCancelled, .message = "The Redis client was closed."}}});
}

void Engine::facts(Client::DoneWithFacts done, const CallOptions& options) {
  const auto shared = std::make_shared<const Client::DoneWithFacts>(std::move(done));
  const auto with_results = [this, shared](std::vector<NodeResult>&& results) {
    // On the loop's thread, unless the client is closed.
    ServerFacts facts;
    if (results.front().result.failure == Failure::kCancelled)
      return (*shared)(std::move(facts), std::move(results.front().result));
    facts.mode = mode_;
    Result state = usable();
    if (mode_ == Mode::kProxy || !state.ok()) return (*shared)(std::move(facts), std::move(state));
    facts.masters = static_cast<int>(results.size());
    for (NodeResult& each : results) {
      if (!each.result.ok()) {
        // INFO may be denied; everything else means that a master is missing.
        if (each.result.failure != Failure::kDenied && state.ok()) state = std::move(each.result);
        continue;
      }
      const std::string_view info = each.result.reply.text();
      const std::string policy(info_field(info, "maxmemory_policy"));
      const bool other = !facts.maxmemory_policy.empty() && facts.maxmemory_policy != policy;
      facts.maxmemory_policy = other ? "mixed" : policy;
      facts.maxmemory += number_of(info_field(info, "maxmemory"));
      facts.used_memory += number_of(info_field(info, "used_memory"));
      facts.evicted_keys += number_of(info_field(info, "evicted_keys"));
      const std::string_view keys = info_field(info, "db0");  // keys=12,expires=3,...
      facts.keys += number_after(keys, "keys=");
      facts.expiring_keys += number_after(keys, "expires=");
    }
    for (const SlotMap::Master& master : map_->masters()) {
      const Node& node = node_at(master.address);
      if (!node.greeted) continue;
      const bool first = facts.product.empty();
      facts.product = node.greeting.product;
      facts.version = first ? node.greeting.version : std::min(facts.version, node.greeting.version);
    }
    if (const std::string uncovered = map_->uncovered(); state.ok() && !uncovered.empty())
      state = {.failure = Failure::kUnavailable,
               .message = fmt::format("No node of the Redis Cluster serves the hash slots {}.", uncovered)};
    (*shared)(std::move(facts), std::move(state));
  };
  run_on_masters({.args = {"INFO"}}, with_results, options);  // several sections can be named from Redis 7 on only
}

}  // namespace alnair::redis
