#include "cache/redis/use_teller.h"

#include <string>
#include <utility>

#include "cache/redis/fill_rule.h"
#include "core/log.h"
#include "core/wall_clock.h"

namespace alnair {
namespace {

constexpr auto kAskEvery = std::chrono::seconds(5);
constexpr auto kSendAfter = std::chrono::milliseconds(500);
constexpr std::size_t kSendAt = 512;             // chunks, or after that time
constexpr std::size_t kMostOnTheirWay = 16'384;  // chunks; of what is more Redis is not told

}  // namespace

void UseTeller::used(std::span<const ContentHash> hashes) {
  const std::int64_t now_ms = milliseconds_now();
  policy_->used(hashes, now_ms);
  std::vector<ContentHash> ready;
  bool due = false;
  {
    const std::lock_guard lock(state_->mutex);
    State& state = *state_;
    if (state.denied) return;
    const Clock::time_point now = Clock::now();
    due = !state.asking && (state.asked == Clock::time_point() || now - state.asked > kAskEvery);
    state.asking |= due;
    if (state.worth && state.on_their_way + state.waiting.size() < kMostOnTheirWay) {
      state.waiting.insert(state.waiting.end(), hashes.begin(), hashes.end());
      if (state.waiting.size() >= kSendAt || now - state.sent > kSendAfter) {
        ready = std::exchange(state.waiting, {});
        state.sent = now;
        state.on_their_way += ready.size();
      }
    }
  }
  if (due) ask(state_);
  if (ready.empty()) return;
  std::vector<redis::Command> commands;
  for (const ContentHash& hash : ready)
    commands.push_back(
        {.args = {"PEXPIREAT", state_->keys.chunk(hash), std::to_string(expiry_of(policy_->priority(hash, now_ms))), "XX"}});
  state_->client->run(std::move(commands), [state = state_](std::size_t, redis::Result&& result) {
    const std::lock_guard lock(state->mutex);
    --state->on_their_way;
    const bool never = result.failure == redis::Failure::kDenied || result.failure == redis::Failure::kUnsupported ||
                       result.failure == redis::Failure::kRefused;
    if (!never || std::exchange(state->denied, true)) return;
    state->waiting.clear();
    log(LogLevel::kInfo, "redis: it is not told what was read, so that flush_policy has no effect here: {}", result.message);
  });
}

void UseTeller::ask(const std::shared_ptr<State>& state) {
  state->client->facts([state](redis::ServerFacts&& facts, redis::Result&& result) {
    const std::lock_guard lock(state->mutex);
    state->asking = false;
    state->asked = Clock::now();
    state->worth = result.ok() && evicts_by_expiry(facts) && facts.expiring_keys > 0 && facts.version.major >= 7;
    if (!state->worth) state->waiting.clear();
  });
}

}  // namespace alnair
