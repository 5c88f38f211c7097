// How a chunk becomes one that Redis may evict, so that this process, its host or the directory may die between any two steps:
//
//  1. The namespace records the identity of the directory that vouches for it. If it records another one, or none, every chunk's
//     expiry is taken away first: what the other directory has is nothing that this one vouches for.
//  2. The chunk is read from Redis, checked against its hash, and written to the directory. It has no expiry yet.
//  3. The directory is flushed: segments are whole, synced, and have their names (open_segment.cc).
//  4. The directory is listed anew. Chunks that are found are durable.
//  5. They get their expiry. From here on Redis may evict them.
//  6. The directory is listed once more. A chunk that is no longer found has been dropped between 4 and 6 (by a host in need of room, after
//     it had made the key persistent, which step 5 undid): its expiry is taken away again.
//
// A death after any step leaves keys without expiry, which the next flusher treats alike, or a chunk that is durable. What is
// left is the moment between 5 and 6 of a flusher that dies just then, while another host drops that very segment.
#include "cache/redis/flusher.h"

#include <algorithm>
#include <latch>
#include <system_error>

#include "cache/redis/fill_rule.h"
#include "core/block_signals.h"
#include "core/metrics.h"
#include "core/wall_clock.h"

namespace alnair {
namespace {

constexpr int kPage = 512;                                // keys a round trip
constexpr std::uint64_t kRoomBytes = 16u << 20;           // to begin with, in a Redis that is full
constexpr std::size_t kAtOnce = 16;                       // chunks in this process's memory
constexpr auto kDropPatience = std::chrono::milliseconds(3'000);

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The flusher's lease has a name that no chunk has.
ChunkId lease_name() {
  Hasher hasher;
  hasher.update_field("flusher");
  const ContentHash hash = hasher.finish();
  ChunkId id;
  std::copy_n(hash.bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

}  // namespace

Flusher::Flusher(std::shared_ptr<redis::Client> client, RedisKeys keys, std::shared_ptr<RedisTier> tier,
                 std::shared_ptr<DurableTier> directory, std::shared_ptr<Cluster> cluster, Options options)
    : client_(std::move(client)),
      keys_(std::move(keys)),
      tier_(std::move(tier)),
      directory_(std::move(directory)),
      cluster_(std::move(cluster)),
      options_(std::move(options)),
      pace_(options_.pace) {}

Flusher::~Flusher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Flusher::start(LockFile* locks, const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (thread_.joinable() || stopping_) return thread_.joinable();
  if (locks != nullptr) {
    alone_ = locks->try_exclusive(lock_offset(LockPurpose::kFlusher, checksum64(std::as_bytes(std::span(name)))));
    if (!alone_) return false;
  }
  const BlockSignals blocked;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {  // the process may have no more threads
    alone_ = {};
  }
  return thread_.joinable();
}

void Flusher::run() {
  const double frequency = std::chrono::duration<double>(options_.frequency).count();
  double pause = frequency;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::duration<double>(pause), [&] { return stopping_; })) {
    lock.unlock();
    const Round round = run_once();
    pause = pace_.pause(frequency, round.seconds, round.written_chunks, round.refused_chunks);
    lock.lock();
    last_round_ = round;
  }
}

Flusher::Round Flusher::last_round() const {
  const std::lock_guard lock(mutex_);
  return last_round_;
}

bool Flusher::elect() {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<LeaseOutcome> outcome;
  };
  const auto waiting = std::make_shared<Waiting>();
  const ChunkId name = lease_name();
  cluster_->acquire({&name, 1}, [waiting](std::vector<LeaseOutcome> outcomes) {
    const std::lock_guard lock(waiting->mutex);
    waiting->outcome = outcomes.at(0);
    waiting->done.notify_all();
  });
  std::unique_lock lock(waiting->mutex);
  waiting->done.wait(lock, [&] { return waiting->outcome.has_value(); });
  // Redis refuses a lease when it is full: just then it needs a flusher. Two that work at once do no harm.
  return *waiting->outcome != LeaseOutcome::kHeld;
}

Flusher::Round Flusher::run_once(bool all) {
  Round round;
  round.elected = elect();
  redis::ServerFacts facts;
  try {
    if (round.elected) facts = client_->check({.deadline = kDropPatience});
  } catch (const std::exception&) {  // the client has said what is wrong
    round.elected = false;
  }
  if (!round.elected) {
    evicted_.reset();  // whoever is elected counts
    metrics().set(Counter::kFlushDirtyBytes, 0);
    metrics().set(Counter::kFlushDirtySeconds, 0);
    return round;
  }
  round.guaranteed = evicts_by_expiry(facts);
  const bool vouched = round.guaranteed && vouch(round);
  count_evictions(facts, vouched);
  if (!vouched) return round;
  const double begin = seconds_now();
  flush(facts, all, round);
  round.seconds = seconds_now() - begin;
  pace_.observe_flush(round.seconds, round.written_bytes);
  metrics().add(Counter::kFlushWrittenBytes, round.written_bytes);
  metrics().add(Counter::kFlushReleasedChunks, round.released_chunks);
  tell_dirty(facts);
  return round;
}

void Flusher::flush(const redis::ServerFacts& facts, bool all, Round& round) {
  const double begin = seconds_now();
  pace_.observe_memory(begin, facts.used_memory);
  std::uint64_t budget = all ? ~std::uint64_t{0} : pace_.amount(facts.used_memory, facts.maxmemory, facts.used_memory);
  if (budget == 0) return;
  const std::uint64_t persistent = facts.keys - std::min(facts.keys, facts.expiring_keys);
  if (!all && clean_keys_ && persistent <= *clean_keys_) return;  // nothing has come
  bool whole = true;
  const redis::Result scanned = client_->scan(keys_.chunk_pattern(), kPage, [&](std::vector<std::string>&& page) {
    budget -= std::min(budget, flush_page(page, budget, round, Then::kRelease));
    const std::lock_guard lock(mutex_);
    whole = budget > 0 && !stopping_;
    return whole;
  });
  round.whole = whole && scanned.ok();
  if (!round.whole || round.released_chunks < round.dirty_chunks) return;
  clean_at_ = begin;
  clean_keys_ = persistent - std::min(persistent, round.released_chunks);
}

// Between two rounds at which the servers evicted only what the same directory vouches for, nothing else can have been evicted.
void Flusher::count_evictions(const redis::ServerFacts& facts, bool vouched) {
  const std::uint64_t more = evicted_ && facts.evicted_keys > *evicted_ ? facts.evicted_keys - *evicted_ : 0;
  metrics().add(Counter::kFlushEvictedKeys, more);
  if (!vouched || !held_) metrics().add(Counter::kFlushEvictedUnvouched, more);
  evicted_ = facts.evicted_keys;
  held_ = vouched;
}

void Flusher::tell_dirty(const redis::ServerFacts& facts) {
  const std::uint64_t persistent = facts.keys - std::min(facts.keys, facts.expiring_keys);
  const std::uint64_t others = clean_keys_.value_or(0);
  const std::uint64_t dirty = persistent > others ? persistent - others : 0;
  if (clean_at_ == 0) clean_at_ = seconds_now();
  metrics().set(Counter::kFlushDirtyBytes, facts.keys == 0 ? 0 : facts.used_memory / facts.keys * dirty);
  metrics().set(Counter::kFlushDirtySeconds, dirty == 0 ? 0 : static_cast<std::uint64_t>(seconds_now() - clean_at_));
}

bool Flusher::vouch(Round& round) {
  const std::string identity = directory_->identity();
  if (identity.empty()) return false;
  if (identity == vouched_) return true;
  const redis::Result recorded = client_->call({.args = {"GET", keys_.directory()}});
  if (!recorded.ok()) return false;
  if (recorded.reply.text() != identity) {
    bool well = true;
    const redis::Result swept = client_->scan(keys_.chunk_pattern(), kPage, [&](std::vector<std::string>&& page) {
      std::vector<redis::Command> commands;
      for (const std::string& key : page) commands.push_back({.args = {"PERSIST", key}});
      for (const redis::Result& result : client_->call(std::move(commands))) well &= result.ok();
      return well;
    });
    if (!swept.ok() || !well) return false;
    const auto record = [&] { return client_->call({.args = {"SET", keys_.directory(), identity}}); };
    const redis::Result result = record();
    if (!result.ok() && !(result.failure == redis::Failure::kNoRoom && make_room(round) && record().ok())) return false;
  }
  vouched_ = identity;
  return true;
}

// Redis is so full that not even the record of step 1 fits, and nothing may be evicted before that. Some chunks go from it altogether,
// once they are durable.
bool Flusher::make_room(Round& round) {
  const std::uint64_t before = round.released_chunks;
  client_->scan(keys_.chunk_pattern(), kPage, [&](std::vector<std::string>&& page) {
    flush_page(page, kRoomBytes, round, Then::kDelete);
    return round.released_chunks == before;
  });
  return round.released_chunks > before;
}

// Returns how many bytes were dealt with.
std::uint64_t Flusher::flush_page(const std::vector<std::string>& page, std::uint64_t budget, Round& round, Then then) {
  std::vector<redis::Command> commands;
  for (const std::string& key : page) commands.push_back({.args = {"PTTL", key}});
  const auto expiries = client_->call(std::move(commands));
  std::vector<ContentHash> dirty;
  for (std::size_t i = 0; i < page.size(); ++i) {
    const auto hash = keys_.hash_of(page[i]);
    if (hash && expiries[i].ok() && expiries[i].reply.integer == -1) dirty.push_back(*hash);  // it is there, and stays
  }
  if (dirty.empty()) return 0;
  round.dirty_chunks += dirty.size();
  const std::unique_ptr<bool[]> present(new bool[dirty.size()]);
  directory_->contains(dirty, {present.get(), dirty.size()});
  std::vector<ContentHash> taken, wanted;
  for (std::size_t i = 0; i < dirty.size(); ++i) (present[i] ? taken : wanted).push_back(dirty[i]);
  std::uint64_t bytes = 0;
  for (std::size_t next = 0; next < wanted.size() && bytes < budget; next += kAtOnce) {
    const auto chunks = read(std::span(wanted).subspan(next, std::min(kAtOnce, wanted.size() - next)));  // step 2
    std::vector<PutOutcome> outcomes(chunks.size(), PutOutcome::kRefused);
    directory_->put(chunks, outcomes);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      bytes += chunks[i].bytes.size();
      round.dirty_bytes += chunks[i].bytes.size();
      if (outcomes[i] == PutOutcome::kRefused) {
        ++round.refused_chunks;
        continue;
      }
      round.written_bytes += chunks[i].bytes.size();
      ++round.written_chunks;
      taken.push_back(chunks[i].hash);
    }
  }
  directory_->flush();  // step 3
  release(taken, round, then);
  return std::max<std::uint64_t>(bytes, 1);
}

std::vector<PutRequest> Flusher::read(std::span<const ContentHash> hashes) {
  struct Fetched {
    explicit Fetched(std::size_t count) : views(count), left(static_cast<std::ptrdiff_t>(count)) {}
    std::vector<std::optional<View>> views;
    std::latch left;
  };
  const auto fetched = std::make_shared<Fetched>(hashes.size());
  tier_->get(hashes, [fetched](std::size_t i, std::optional<View> view) {
    fetched->views[i] = std::move(view);
    fetched->left.count_down();
  });
  fetched->left.wait();
  std::vector<PutRequest> chunks;
  for (std::size_t i = 0; i < hashes.size(); ++i)
    if (fetched->views[i]) chunks.push_back({.hash = hashes[i], .bytes = std::move(*fetched->views[i])});
  return chunks;
}

std::string Flusher::expiry(const ContentHash& hash, std::int64_t now_ms) const {
  return std::to_string(expiry_of(options_.priority ? options_.priority(hash, now_ms) : static_cast<std::uint64_t>(now_ms)));
}

// XX: a key without an expiry is none that may be evicted, and stays so.
void Flusher::reorder(std::span<const ContentHash> hashes) {
  const std::int64_t now = milliseconds_now();
  std::vector<redis::Command> commands;
  for (const ContentHash& hash : hashes)
    commands.push_back({.args = {"PEXPIREAT", keys_.chunk(hash), expiry(hash, now), "XX"}});
  if (!commands.empty()) client_->run(std::move(commands), [](std::size_t, redis::Result&&) {});
}

void Flusher::release(std::span<const ContentHash> hashes, Round& round, Then then) {
  if (hashes.empty()) return;
  const std::unique_ptr<bool[]> durable(new bool[hashes.size()]);
  directory_->durable(hashes, {durable.get(), hashes.size()});  // step 4
  const std::int64_t now = milliseconds_now();
  std::vector<ContentHash> expiring;
  std::vector<redis::Command> commands;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (!durable[i]) continue;
    expiring.push_back(hashes[i]);
    if (then == Then::kDelete) {
      commands.push_back({.args = {"DEL", keys_.chunk(hashes[i])}});
      continue;
    }
    commands.push_back({.args = {"PEXPIREAT", keys_.chunk(hashes[i]), expiry(hashes[i], now)}});
  }
  if (commands.empty()) return;
  const auto results = client_->call(std::move(commands));  // step 5
  for (const redis::Result& result : results) round.released_chunks += result.ok();
  if (then == Then::kDelete) return;
  directory_->durable(expiring, {durable.get(), expiring.size()});  // step 6
  std::vector<ContentHash> dropped;
  for (std::size_t i = 0; i < expiring.size(); ++i)
    if (!durable[i]) dropped.push_back(expiring[i]);
  if (!dropped.empty()) keep_in_redis(*client_, keys_, dropped);
}

bool Flusher::keep_in_redis(redis::Client& client, const RedisKeys& keys, std::span<const ContentHash> hashes) {
  redis::ServerFacts facts;
  try {
    facts = client.check({.deadline = kDropPatience});
  } catch (const std::exception&) {
    return false;
  }
  const char* const command = spares_persistent_keys(facts) ? "PERSIST" : "DEL";
  std::vector<redis::Command> commands;
  for (const ContentHash& hash : hashes) commands.push_back({.args = {command, keys.chunk(hash)}});
  const auto results = client.call(std::move(commands), {.deadline = kDropPatience});
  return std::all_of(results.begin(), results.end(), [](const redis::Result& result) { return result.ok(); });
}

}  // namespace alnair
