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
// left is the moment between 5 and 6 of a flusher that dies just then, while another host drops that very segment. So whoever walks over
// the keys compares those with an expiry with what the directory has, and takes the expiry away where it has nothing: a file may also
// have been removed by hand.
//
// A walk takes a second or two for a million keys. It is made when something must be written, and to count what only Redis has; the
// latter for a twentieth of the time at most.
#include "cache/redis/flusher.h"

#include <algorithm>
#include <latch>
#include <system_error>

#include "cache/redis/fill_rule.h"
#include "core/block_signals.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/wall_clock.h"

namespace alnair {
namespace {

constexpr int kPage = 512;                                // keys a round trip
constexpr std::uint64_t kRoomBytes = 16u << 20;           // to begin with, in a Redis that is full
constexpr double kCountShare = 20;                        // a walk that only counts comes so many times its duration after the last
constexpr double kLookAnyway = 600;                       // seconds, though nothing seems to have changed
constexpr std::size_t kMostSeen = 1u << 20;               // of more keys than that, some may count twice
constexpr std::size_t kAtOnce = 16;                       // chunks in this process's memory
constexpr auto kDropPatience = std::chrono::milliseconds(3'000);

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::uint64_t persistent_keys(const redis::ServerFacts& facts) {
  return facts.keys - std::min(facts.keys, facts.expiring_keys);
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
    counted_.reset();
    for (const Counter state : {Counter::kFlushDirtyBytes, Counter::kFlushDirtySeconds, Counter::kFlushCountedSeconds})
      metrics().set(state, 0);
    return round;
  }
  round.guaranteed = evicts_by_expiry(facts);
  const bool vouched = round.guaranteed && vouch(round);
  count_evictions(facts, vouched);
  if (!vouched) {
    counted_.reset();
    return round;
  }
  const double begin = seconds_now();
  flush(facts, all, round);
  round.seconds = seconds_now() - begin;
  pace_.observe_flush(round.seconds, round.written_bytes);
  metrics().add(Counter::kFlushWrittenBytes, round.written_bytes);
  metrics().add(Counter::kFlushReleasedChunks, round.released_chunks);
  metrics().add(Counter::kFlushExposedChunks, round.exposed_chunks);
  tell_dirty(facts, round);
  return round;
}

void Flusher::flush(const redis::ServerFacts& facts, bool all, Round& round) {
  const double begin = seconds_now();
  pace_.observe_memory(begin, facts.used_memory);
  const std::uint64_t persistent = persistent_keys(facts);
  const bool nothing_came = counted_ && counted_->left.chunks == 0 && persistent <= counted_->persistent;
  Walk walk{.round = round};
  if (all)
    walk.budget = ~std::uint64_t{0};
  else if (!nothing_came)
    walk.budget = pace_.amount(facts.used_memory, facts.maxmemory, facts.used_memory);
  const bool count = all || count_is_due(facts, begin);
  if (walk.budget == 0 && !count) return;
  bool whole = true;
  const redis::Result scanned = client_->scan(keys_.chunk_pattern(), kPage, [&](std::vector<std::string>&& page) {
    flush_page(page, walk);
    const std::lock_guard lock(mutex_);
    whole = (count || walk.budget > 0) && !stopping_;
    return whole;
  });
  round.whole = whole && scanned.ok();
  const std::uint64_t released = round.released_chunks;
  if (round.whole) {
    counted_ = Counted{.at = begin,
                       .took = seconds_now() - begin,
                       .left = walk.left,
                       .persistent = persistent + round.exposed_chunks - std::min(persistent, released),
                       .evicted = facts.evicted_keys,
                       .mean_bytes = facts.keys == 0 ? 0 : facts.used_memory / facts.keys};
    if (round.exposed_chunks > 0) metrics().add(Counter::kFlushEvictedUnvouched, evicted_since_look_);
    evicted_since_look_ = 0;
  } else if (counted_) {
    counted_->left.bytes -= std::min(counted_->left.bytes, round.dirty_bytes - walk.left.bytes);
    counted_->left.chunks -= std::min(counted_->left.chunks, released);
    counted_->persistent -= std::min(counted_->persistent, released);
  }
}

bool Flusher::count_is_due(const redis::ServerFacts& facts, double now) const {
  if (!counted_) return true;
  const double age = now - counted_->at;
  if (age < kCountShare * counted_->took) return false;
  return age > kLookAnyway || persistent_keys(facts) != counted_->persistent || facts.evicted_keys != counted_->evicted;
}

// Between two rounds at which the servers evicted only what the same directory vouches for, nothing else can have been evicted; but for
// what it had lost meanwhile, which the next walk over all keys finds.
void Flusher::count_evictions(const redis::ServerFacts& facts, bool vouched) {
  const std::uint64_t more = evicted_ && facts.evicted_keys > *evicted_ ? facts.evicted_keys - *evicted_ : 0;
  metrics().add(Counter::kFlushEvictedKeys, more);
  if (vouched && held_)
    evicted_since_look_ += more;
  else
    metrics().add(Counter::kFlushEvictedUnvouched, more);
  evicted_ = facts.evicted_keys;
  held_ = vouched;
}

// As counted, and what has come since, by the number of keys without an expiry.
void Flusher::tell_dirty(const redis::ServerFacts& facts, const Round& round) {
  const std::uint64_t persistent = persistent_keys(facts) + round.exposed_chunks;
  const std::uint64_t now = persistent - std::min(persistent, round.released_chunks);
  const Counted known = counted_.value_or(Counted{.at = seconds_now()});
  const std::uint64_t came = now > known.persistent ? now - known.persistent : 0;
  const std::uint64_t mean = known.left.chunks > 0 ? known.left.bytes / known.left.chunks : known.mean_bytes;
  const double age = seconds_now() - known.at;
  double dirty_for = known.left.chunks + came == 0 ? 0 : age;
  if (known.left.chunks > 0 && known.left.oldest_s > 0)
    dirty_for = std::max(0.0, static_cast<double>(milliseconds_now()) / 1000 - static_cast<double>(known.left.oldest_s));
  metrics().set(Counter::kFlushDirtyBytes, known.left.bytes + came * mean);
  metrics().set(Counter::kFlushDirtySeconds, static_cast<std::uint64_t>(dirty_for));
  metrics().set(Counter::kFlushCountedSeconds, static_cast<std::uint64_t>(age));
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
    Walk walk{.round = round, .budget = kRoomBytes, .then = Then::kDelete};
    flush_page(page, walk);
    return round.released_chunks == before;
  });
  return round.released_chunks > before;
}

void Flusher::Count::add(const Dirty& dirty) {
  ++chunks;
  bytes += dirty.bytes;
  if (dirty.written_s > 0 && (oldest_s == 0 || dirty.written_s < oldest_s)) oldest_s = dirty.written_s;
}

void Flusher::flush_page(const std::vector<std::string>& page, Walk& walk) {
  std::vector<redis::Command> commands;
  for (const std::string& key : page) commands.push_back({.args = {"PTTL", key}});
  const auto expiries = client_->call(std::move(commands));
  std::vector<ContentHash> persistent, evictable;
  for (std::size_t i = 0; i < page.size(); ++i) {
    const auto hash = keys_.hash_of(page[i]);
    if (!hash || !expiries[i].ok() || expiries[i].reply.integer == -2) continue;  // it is gone
    (expiries[i].reply.integer == -1 ? persistent : evictable).push_back(*hash);
  }
  if (walk.then == Then::kRelease) {
    const auto exposed = take_back(evictable);
    walk.round.exposed_chunks += exposed.size();
    persistent.insert(persistent.end(), exposed.begin(), exposed.end());
  }
  if (persistent.empty()) return;
  const auto dirty = measure(persistent);
  walk.round.dirty_chunks += dirty.size();
  for (const Dirty& each : dirty) walk.round.dirty_bytes += each.bytes;
  const auto released = walk.budget > 0 ? write(dirty, walk) : std::unordered_set<ContentHash>();
  for (const Dirty& each : dirty) {
    if (released.contains(each.hash)) continue;
    if (walk.seen.size() >= kMostSeen || walk.seen.insert(first64(each.hash)).second) walk.left.add(each);
  }
}

// Steps 2 to 6, of as many as the budget allows. Returns those that may be evicted now.
std::unordered_set<ContentHash> Flusher::write(std::span<const Dirty> dirty, Walk& walk) {
  Round& round = walk.round;
  std::vector<ContentHash> hashes, taken, wanted;
  for (const Dirty& each : dirty) hashes.push_back(each.hash);
  const std::unique_ptr<bool[]> present(new bool[hashes.size()]);
  directory_->contains(hashes, {present.get(), hashes.size()});
  for (std::size_t i = 0; i < hashes.size(); ++i) (present[i] ? taken : wanted).push_back(hashes[i]);
  std::uint64_t bytes = 0;
  for (std::size_t next = 0; next < wanted.size() && bytes < walk.budget; next += kAtOnce) {
    const auto chunks = read(std::span(wanted).subspan(next, std::min(kAtOnce, wanted.size() - next)));  // step 2
    std::vector<PutOutcome> outcomes(chunks.size(), PutOutcome::kRefused);
    directory_->put(chunks, outcomes);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      bytes += chunks[i].bytes.size();
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
  walk.budget -= std::min(walk.budget, std::max<std::uint64_t>(bytes, 1));
  return release(taken, round, walk.then);
}

// Of chunks that may be evicted, those that the directory does not have. They may not be evicted any more.
std::vector<ContentHash> Flusher::take_back(std::span<const ContentHash> evictable) {
  const auto without = [](std::span<const ContentHash> hashes, const bool* there) {
    std::vector<ContentHash> missing;
    for (std::size_t i = 0; i < hashes.size(); ++i)
      if (!there[i]) missing.push_back(hashes[i]);
    return missing;
  };
  const std::unique_ptr<bool[]> there(new bool[evictable.size()]);
  directory_->contains(evictable, {there.get(), evictable.size()});
  std::vector<ContentHash> missing = without(evictable, there.get());
  if (missing.empty()) return {};
  directory_->durable(missing, {there.get(), missing.size()});
  missing = without(missing, there.get());
  // A directory that does not answer, or has more than can be looked up here, may have them all the same.
  if (missing.empty() || directory_->identity() != vouched_ || !directory_->knows_all() || !keep_in_redis(*client_, keys_, missing)) return {};
  log(LogLevel::kWarning,
      "flusher: {} chunks that Redis might have evicted are not in the shared directory (files of it were removed, or damaged); they are "
      "written again.",
      missing.size());
  return missing;
}

// What is left of these in Redis. Without the right to GETRANGE sizes are not known.
std::vector<Flusher::Dirty> Flusher::measure(std::span<const ContentHash> hashes) {
  std::vector<redis::Command> commands;
  for (const ContentHash& hash : hashes)
    commands.push_back({.args = {"GETRANGE", keys_.chunk(hash), "0", std::to_string(RedisTier::kHeaderBytes - 1)}});
  const auto heads = client_->call(std::move(commands));
  std::vector<Dirty> dirty;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (heads[i].ok() && heads[i].reply.text().empty()) continue;  // it is gone
    const auto header = heads[i].ok() ? RedisTier::parse_header(heads[i].reply.text()) : std::nullopt;
    dirty.push_back({.hash = hashes[i], .bytes = header ? header->length : 0, .written_s = header ? header->written_s : 0});
  }
  return dirty;
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

std::unordered_set<ContentHash> Flusher::release(std::span<const ContentHash> hashes, Round& round, Then then) {
  if (hashes.empty()) return {};
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
    const std::uint64_t priority =
        options_.policy == nullptr ? static_cast<std::uint64_t>(now) : options_.policy->priority(hashes[i], now);
    commands.push_back({.args = {"PEXPIREAT", keys_.chunk(hashes[i]), std::to_string(expiry_of(priority))}});
  }
  if (commands.empty()) return {};
  const auto results = client_->call(std::move(commands));  // step 5
  std::unordered_set<ContentHash> released;
  for (std::size_t i = 0; i < expiring.size(); ++i)
    if (results[i].ok()) released.insert(expiring[i]);
  if (then == Then::kDelete) {
    round.released_chunks += released.size();
    return released;
  }
  directory_->durable(expiring, {durable.get(), expiring.size()});  // step 6
  std::vector<ContentHash> dropped;
  for (std::size_t i = 0; i < expiring.size(); ++i)
    if (!durable[i]) dropped.push_back(expiring[i]);
  if (!dropped.empty()) keep_in_redis(*client_, keys_, dropped);
  for (const ContentHash& hash : dropped) released.erase(hash);
  round.released_chunks += released.size();
  return released;
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
