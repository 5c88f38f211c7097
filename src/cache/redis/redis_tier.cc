#include "cache/redis/redis_tier.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <latch>
#include <mutex>
#include <thread>

#include "alnair/core/error.h"
#include "core/io_pool.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/wall_clock.h"

namespace alnair {
namespace {

using Clock = std::chrono::steady_clock;
using redis::Failure;
using redis::Reply;

constexpr char kMagic[4] = {'A', 'L', 'N', 'C'};
constexpr std::uint32_t kFormat = 2;
constexpr std::uint64_t kMaxChunkBytes = 32u << 20;   // what is longer is none of ours, and takes no memory here
constexpr auto kFullFor = std::chrono::seconds(1);

// Bytes that the client's own thread may hash, where others may: about 6 us. Two cores have enough to do with receiving and with filling
// node memory: to hand a chunk to a third thread costs more than it hides.
std::uint64_t hashed_at_once() {
  static const bool alone = std::thread::hardware_concurrency() <= 2;
  return alone ? kMaxChunkBytes : 32u << 10;
}

struct StoredHeader {
  char magic[4];
  std::uint32_t format;
  std::uint32_t length;
  std::uint32_t written_s;
};
static_assert(sizeof(StoredHeader) == RedisTier::kHeaderBytes && std::endian::native == std::endian::little);

std::string header_of(std::uint64_t length) {
  StoredHeader header{{}, kFormat, static_cast<std::uint32_t>(length), static_cast<std::uint32_t>(milliseconds_now() / 1000)};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

// The chunk behind the header; nullopt: it is none that this library wrote, or it is cut.
std::optional<View> body_of(const View& value) {
  const auto header = RedisTier::parse_header(value.text().substr(0, RedisTier::kHeaderBytes));
  if (!header || header->length != value.size() - RedisTier::kHeaderBytes) return std::nullopt;
  return value.part(RedisTier::kHeaderBytes, header->length);
}

}  // namespace

struct RedisTier::State : std::enable_shared_from_this<RedisTier::State> {
  State(std::shared_ptr<redis::Client> from, RedisKeys named)
      : client(std::move(from)),
        keys(std::move(named)),
        // Hashing never hangs: the limit only has to be far away.
        checking({std::clamp<std::size_t>(std::thread::hardware_concurrency() / 2, 1, 8), std::chrono::hours(1), {}}) {}

  // What one get() asked for.
  struct Asked {
    std::vector<ContentHash> hashes;
    Found found;
    Clock::time_point since;
  };

  void answer(const std::shared_ptr<const Asked>& asked, std::size_t i, redis::Result&& result);
  void check(const Asked& asked, std::size_t i, std::optional<View> body);
  void miss(const Asked& asked, std::size_t i) {
    metrics().add(TierId::kRedis, TierCounter::kMisses);
    asked.found(i, std::nullopt);
  }
  void fault(const redis::Result& result) {
    metrics().add(TierId::kRedis, TierCounter::kFaults);
    if (result.failure != Failure::kCancelled && logged[static_cast<std::size_t>(result.failure) % logged.size()].first())
      log(LogLevel::kWarning,
          "redis tier: {} Such chunks come from elsewhere; further failures of this kind are only counted.", result.message);
  }
  void erase(const ContentHash& hash) {
    client->run({{.args = {"DEL", keys.chunk(hash)}}}, [](std::size_t, redis::Result&&) {});
  }

  const std::shared_ptr<redis::Client> client;
  const RedisKeys keys;
  std::array<Once, 16> logged;
  std::atomic<Clock::rep> full_until{0};
  IoPool checking;  // last: its threads use the rest
};

void RedisTier::State::answer(const std::shared_ptr<const Asked>& asked, std::size_t i, redis::Result&& result) {
  if (!result.ok()) {
    fault(result);
    return miss(*asked, i);
  }
  if (result.reply.is_nil()) return miss(*asked, i);
  std::optional<View> body = body_of(result.reply.bytes);
  if (!body || body->size() <= hashed_at_once()) return check(*asked, i, std::move(body));
  struct CheckTask : IoTask {
    std::shared_ptr<State> state;
    std::shared_ptr<const Asked> asked;
    std::size_t index = 0;
    View body;
    void run() noexcept override {}
    void finish(bool) noexcept override { state->check(*asked, index, std::move(body)); }
  };
  auto task = std::make_shared<CheckTask>();
  task->state = shared_from_this();
  task->asked = asked;
  task->index = i;
  task->body = *body;
  if (!checking.submit(std::move(task))) check(*asked, i, std::move(body));
}

void RedisTier::State::check(const Asked& asked, std::size_t i, std::optional<View> body) {
  if (!body || content_hash(body->bytes()) != asked.hashes[i]) {
    metrics().add(TierId::kRedis, TierCounter::kCorrupt);
    erase(asked.hashes[i]);
    return miss(asked, i);
  }
  metrics().add(TierId::kRedis, TierCounter::kHits);
  metrics().add(TierId::kRedis, TierCounter::kHitBytes, body->size());
  metrics().record_latency(TierId::kRedis, Clock::now() - asked.since);
  asked.found(i, std::move(body));
}

std::optional<RedisTier::Header> RedisTier::parse_header(std::string_view value) {
  StoredHeader header;
  if (value.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, value.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.format != kFormat) return std::nullopt;
  return Header{.length = header.length, .written_s = header.written_s};
}

RedisTier::RedisTier(std::shared_ptr<redis::Client> client, RedisKeys keys)
    : state_(std::make_shared<State>(std::move(client), std::move(keys))) {}

RedisTier::~RedisTier() = default;

void RedisTier::get(std::span<const ContentHash> hashes, Found found) {
  if (hashes.empty()) return;
  const auto asked = std::make_shared<const State::Asked>(
      State::Asked{{hashes.begin(), hashes.end()}, std::move(found), Clock::now()});
  std::vector<std::string> keys;
  keys.reserve(hashes.size());
  for (const ContentHash& hash : hashes) keys.push_back(state_->keys.chunk(hash));
  state_->client->get(
      std::move(keys),
      [state = state_, asked](std::size_t i, redis::Result&& result) { state->answer(asked, i, std::move(result)); },
      {.body_offset = kHeaderBytes, .most_bytes = kHeaderBytes + kMaxChunkBytes});
}

void RedisTier::contains(std::span<const ContentHash> hashes, std::span<bool> present) {
  std::vector<redis::Command> commands;
  commands.reserve(hashes.size());
  for (const ContentHash& hash : hashes) commands.push_back({.args = {"EXISTS", state_->keys.chunk(hash)}});
  const auto results = state_->client->call(std::move(commands));
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (!results[i].ok()) state_->fault(results[i]);
    present[i] = results[i].ok() && results[i].reply.integer > 0;
  }
}

void RedisTier::store(std::vector<PutRequest> requests, Stored stored, std::int64_t expires_at_ms) {
  struct Storing {
    std::vector<PutRequest> requests;
    std::vector<std::size_t> sent;  // the request of each command
    Stored stored;
  };
  const auto storing = std::make_shared<Storing>();
  storing->requests = std::move(requests);
  storing->stored = std::move(stored);
  const bool full = Clock::now().time_since_epoch().count() < state_->full_until;
  std::vector<redis::Command> commands;
  for (std::size_t i = 0; i < storing->requests.size(); ++i) {
    const PutRequest& request = storing->requests[i];
    if (full || request.transit) continue;
    storing->sent.push_back(i);
    // NX: who put it before is told, and what is there keeps its age and expiry.
    commands.push_back({.args = {"SET", state_->keys.chunk(request.hash),
                                 redis::Argument(header_of(request.bytes.size()), request.bytes), "NX"}});
    if (expires_at_ms == 0) continue;
    commands.back().args.emplace_back("PX");  // PXAT is known from Redis 6.2 on
    commands.back().args.emplace_back(std::to_string(expires_at_ms - milliseconds_now()));
  }
  const std::vector<std::size_t> sent = storing->sent;
  if (!commands.empty()) {
    state_->client->run(std::move(commands), [state = state_, storing](std::size_t c, redis::Result&& result) {
      const std::size_t i = storing->sent[c];
      PutOutcome outcome = PutOutcome::kRefused;
      if (result.ok()) {
        outcome = result.reply.is_nil() ? PutOutcome::kPresent : PutOutcome::kStored;
      } else if (result.failure == Failure::kNoRoom) {
        state->full_until = (Clock::now() + kFullFor).time_since_epoch().count();
      } else {
        state->fault(result);
      }
      if (outcome == PutOutcome::kStored) {
        metrics().add(TierId::kRedis, TierCounter::kPuts);
        metrics().add(TierId::kRedis, TierCounter::kPutBytes, storing->requests[i].bytes.size());
      } else if (outcome == PutOutcome::kRefused) {
        metrics().add(TierId::kRedis, TierCounter::kRefused);
      }
      storing->stored(i, outcome);
    });
  }
  for (std::size_t i = 0, next = 0; i < storing->requests.size(); ++i) {
    if (next < sent.size() && sent[next] == i) {
      ++next;
      continue;
    }
    metrics().add(TierId::kRedis, TierCounter::kRefused);
    storing->stored(i, PutOutcome::kRefused);
  }
}

void RedisTier::put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) {
  struct Waiting {
    explicit Waiting(std::size_t count)
        : outcomes(count, PutOutcome::kRefused), left(static_cast<std::ptrdiff_t>(count)) {}
    std::vector<PutOutcome> outcomes;
    std::latch left;
  };
  const auto waiting = std::make_shared<Waiting>(requests.size());
  store({requests.begin(), requests.end()}, [waiting](std::size_t i, PutOutcome outcome) {
    waiting->outcomes[i] = outcome;
    waiting->left.count_down();
  });
  waiting->left.wait();
  std::copy_n(waiting->outcomes.begin(), std::min(outcomes.size(), requests.size()), outcomes.begin());
}

void RedisTier::erase(const ContentHash& hash) {
  (void)state_->client->call({.args = {"DEL", state_->keys.chunk(hash)}});
}

TierUsage RedisTier::usage() const {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<redis::ServerFacts> facts;
  };
  const auto waiting = std::make_shared<Waiting>();
  state_->client->facts([waiting](redis::ServerFacts&& facts, redis::Result&&) {
    const std::lock_guard lock(waiting->mutex);
    waiting->facts = std::move(facts);
    waiting->done.notify_all();
  });
  std::unique_lock lock(waiting->mutex);
  waiting->done.wait(lock, [&] { return waiting->facts.has_value(); });
  return {.used_bytes = waiting->facts->used_memory, .limit_bytes = waiting->facts->maxmemory};
}

void check_redis_namespace(redis::Client& client, const RedisKeys& keys) {
  const std::string format = std::to_string(kFormat);
  (void)client.call({.args = {"SET", keys.format(), format, "NX"}});
  const redis::Result found = client.call({.args = {"GET", keys.format()}});
  const std::string name = keys.prefix().substr(0, keys.prefix().find(':'));
  if (found.failure == Failure::kRefused && found.message.find("WRONGTYPE") != std::string::npos)
    throw ConfigError(fmt::format("redis: the namespace \"{}\" is in use by something else (the key {} is not Alnair's); name "
                                  "another one with ?namespace=... in the URL",
                                  name, keys.format()));
  if (!found.ok() || found.reply.is_nil() || found.reply.text() == format) return;
  throw ConfigError(fmt::format("redis: the namespace \"{}\" is of format {}, and this version of Alnair writes format {}; "
                                "name another one with ?namespace=... in the URL",
                                name, found.reply.text(), format));
}

}  // namespace alnair
