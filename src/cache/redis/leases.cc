#include "cache/redis/leases.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>

#include "core/random.h"
#include "core/block_signals.h"
#include "core/log.h"

namespace alnair {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatienceAtEnd = std::chrono::milliseconds(1'000);

// A deadline further away than ten lifetimes was written under another clock: a server's that was set back.
constexpr std::string_view kNow = R"(
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function read(id)
  local held = redis.call('HGET', KEYS[1], id)
  if not held then return nil end
  local token, deadline = string.match(held, '^(%x+) (%d+)$')
  return token, tonumber(deadline)
end
local function write(id, lifetime)
  redis.call('HSET', KEYS[1], id, ARGV[1] .. ' ' .. string.format('%.0f', now + lifetime))
end
)";

// ARGV: token, lifetime in ms, ids. For each id 1: granted, 0: another's.
const redis::Script& acquire_script() {
  static const redis::Script script(std::string(kNow) + R"(
local granted = {}
for i = 3, #ARGV do
  local token, deadline = read(ARGV[i])
  if token and token ~= ARGV[1] and deadline > now and deadline <= now + 10 * ARGV[2] then
    granted[i - 2] = 0
  else
    write(ARGV[i], ARGV[2])
    granted[i - 2] = 1
  end
end
return granted
)");
  return script;
}

// ARGV: token, lifetime, ids. Moves the deadlines of what this token still holds; returns nothing of use.
const redis::Script& renew_script() {
  static const redis::Script script(std::string(kNow) + R"(
for i = 3, #ARGV do
  if read(ARGV[i]) == ARGV[1] then write(ARGV[i], ARGV[2]) end
end
return 0
)");
  return script;
}

// ARGV: token, ids.
const redis::Script& release_script() {
  static const redis::Script script(std::string(kNow) + R"(
for i = 2, #ARGV do
  if read(ARGV[i]) == ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 0
)");
  return script;
}

// ARGV: lifetime.
const redis::Script& sweep_script() {
  static const redis::Script script(std::string(kNow) + R"(
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local token, deadline = read(id)
  if not token or deadline <= now or deadline > now + 10 * ARGV[1] then redis.call('HDEL', KEYS[1], id) end
end
return 0
)");
  return script;
}

std::string text_of(const ChunkId& id) { return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()}; }

}  // namespace

struct Leases::State : std::enable_shared_from_this<Leases::State> {
  State(std::shared_ptr<redis::Client> from, RedisKeys named, Timing times)
      : client(std::move(from)), keys(std::move(named)), timing(times), token(fmt::format("{:016x}", random_word())) {}

  using Members = std::map<std::string, std::vector<std::size_t>>;  // a bucket's key, and which ids lie there
  Members buckets_of(std::span<const ChunkId> ids) const {
    Members buckets;
    for (std::size_t i = 0; i < ids.size(); ++i) buckets[keys.lease_bucket(ids[i])].push_back(i);
    return buckets;
  }

  // The script for every bucket; `done` once for each command.
  void run(const redis::Script& script, std::span<const ChunkId> ids, bool with_lifetime, redis::Client::Done done) {
    std::vector<redis::Command> commands;
    for (const auto& [key, members] : buckets_of(ids)) {
      std::vector<redis::Argument> args{token};
      if (with_lifetime) args.emplace_back(std::to_string(timing.lifetime.count()));
      for (const std::size_t i : members) args.emplace_back(text_of(ids[i]));
      commands.push_back(redis::Command::of_script(script, {key}, std::move(args)));
    }
    if (!commands.empty()) client->run(std::move(commands), std::move(done));
  }

  void note_granted(std::span<const ChunkId> ids) {
    if (ids.empty()) return;
    const std::lock_guard lock(mutex);
    held.insert(ids.begin(), ids.end());
    if (keeper.joinable() || stopping) return;
    const BlockSignals blocked;
    try {
      keeper = std::thread([this] { keep(); });
    } catch (const std::system_error&) {  // the process may have no more threads: what takes longer, another node fetches too
    }
  }

  void keep() {
    auto next_sweep = Clock::now() + timing.sweep;
    std::unique_lock lock(mutex);
    while (!stopping) {
      wake.wait_for(lock, timing.lifetime / 3, [&] { return stopping; });
      if (stopping) return;
      const std::vector<ChunkId> ids(held.begin(), held.end());
      lock.unlock();
      run(renew_script(), ids, true, [](std::size_t, redis::Result&&) {});
      if (Clock::now() > next_sweep) {
        sweep([] {});
        next_sweep = Clock::now() + timing.sweep;
      }
      lock.lock();
    }
  }

  void sweep(std::function<void()> done) {
    std::vector<redis::Command> commands;
    for (std::uint32_t bucket = 0; bucket < RedisKeys::kLeaseBuckets; ++bucket)
      commands.push_back(redis::Command::of_script(sweep_script(), {keys.lease_bucket(bucket)},
                                                   {std::to_string(timing.lifetime.count())}));
    const auto left = std::make_shared<std::atomic<std::size_t>>(commands.size());
    client->run(std::move(commands), [left, done = std::move(done)](std::size_t, redis::Result&&) {
      if (--*left == 0) done();
    });
  }

  const std::shared_ptr<redis::Client> client;
  const RedisKeys keys;
  const Timing timing;
  const std::string token;  // this process's
  Once logged;
  std::mutex mutex;
  std::condition_variable wake;
  std::set<ChunkId> held;
  bool stopping = false;
  std::thread keeper;
};

Leases::Leases(std::shared_ptr<redis::Client> client, RedisKeys keys, Timing timing)
    : state_(std::make_shared<State>(std::move(client), std::move(keys), timing)) {}

void Leases::close() {
  std::vector<ChunkId> ids;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    ids.assign(state_->held.begin(), state_->held.end());
    state_->held.clear();
  }
  state_->wake.notify_all();
  if (state_->keeper.joinable()) state_->keeper.join();
  std::vector<redis::Command> commands;
  for (const auto& [key, members] : state_->buckets_of(ids)) {
    std::vector<redis::Argument> args{state_->token};
    for (const std::size_t i : members) args.emplace_back(text_of(ids[i]));
    commands.push_back(redis::Command::of_script(release_script(), {key}, std::move(args)));
  }
  if (!commands.empty()) (void)state_->client->call(std::move(commands), {.deadline = kPatienceAtEnd});
}

void Leases::acquire(std::span<const ChunkId> ids, Cluster::Leased done) {
  struct Asked {
    std::vector<ChunkId> ids;
    std::vector<std::vector<std::size_t>> of_command;
    std::vector<LeaseOutcome> outcomes;
    std::atomic<std::size_t> left;
    Cluster::Leased done;
  };
  if (ids.empty()) return done({});
  const auto asked = std::make_shared<Asked>();
  asked->ids.assign(ids.begin(), ids.end());
  for (auto& [key, members] : state_->buckets_of(ids)) asked->of_command.push_back(std::move(members));
  asked->outcomes.assign(ids.size(), LeaseOutcome::kUnavailable);
  asked->left = asked->of_command.size();
  asked->done = std::move(done);
  state_->run(acquire_script(), ids, true, [state = state_, asked](std::size_t c, redis::Result&& result) {
    const auto& members = asked->of_command[c];
    std::vector<ChunkId> granted;
    if (result.ok() && result.reply.elements.size() == members.size()) {
      for (std::size_t m = 0; m < members.size(); ++m) {
        const bool ours = result.reply.elements[m].integer == 1;
        asked->outcomes[members[m]] = ours ? LeaseOutcome::kGranted : LeaseOutcome::kHeld;
        if (ours) granted.push_back(asked->ids[members[m]]);
      }
    } else if (!result.ok() && result.failure != redis::Failure::kCancelled && state->logged.first()) {
      log(LogLevel::kWarning,
          "redis: leases cannot be had, so each node fetches for itself: {} Further failures are not logged.",
          result.message);
    }
    state->note_granted(granted);
    if (--asked->left == 0) asked->done(std::move(asked->outcomes));
  });
}

void Leases::release(std::span<const ChunkId> ids) {
  std::vector<ChunkId> ours;
  {
    const std::lock_guard lock(state_->mutex);
    for (const ChunkId& id : ids)
      if (state_->held.erase(id) > 0) ours.push_back(id);
  }
  state_->run(release_script(), ours, false, [](std::size_t, redis::Result&&) {});
}

void Leases::sweep(std::function<void()> done) { state_->sweep(std::move(done)); }

}  // namespace alnair
