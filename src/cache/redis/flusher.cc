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
#include <atomic>

#include "core/block_signals.h"

namespace alnair {
namespace {

constexpr std::int64_t kFarFutureMs = 4'102'444'800'000;  // 2100-01-01
constexpr int kPage = 512;                                // keys a round trip
constexpr auto kDropPatience = std::chrono::milliseconds(3'000);

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::int64_t milliseconds_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
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

std::int64_t expiry_of(std::uint64_t priority) {
  return kFarFutureMs + static_cast<std::int64_t>(std::min<std::uint64_t>(priority, std::uint64_t{1} << 52));
}

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

void Flusher::start() {
  const std::lock_guard lock(mutex_);
  if (thread_.joinable() || stopping_) return;
  const BlockSignals blocked;
  thread_ = std::thread([this] { run(); });
}

void Flusher::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, options_.frequency, [&] { return stopping_; })) {
    lock.unlock();
    run_once();
    lock.lock();
  }
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
  return *waiting->outcome == LeaseOutcome::kGranted;
}

Flusher::Round Flusher::run_once(bool all) {
  Round round;
  round.elected = elect();
  if (!round.elected) return round;
  redis::ServerFacts facts;
  try {
    facts = client_->check({.deadline = kDropPatience});
  } catch (const std::exception&) {
    return round;  // the client has said what is wrong
  }
  round.guaranteed = facts.maxmemory_policy == "volatile-ttl";
  if (!round.guaranteed) return round;
  pace_.observe_memory(seconds_now(), facts.used_memory);
  std::uint64_t budget = all ? ~std::uint64_t{0} : pace_.amount(facts.used_memory, facts.maxmemory, facts.used_memory);
  if (budget == 0 || !vouch()) return round;
  const double begin = seconds_now();
  client_->scan(keys_.chunk_pattern(), kPage, [&](std::vector<std::string>&& page) {
    budget -= std::min(budget, flush_page(page, budget, round));
    const std::lock_guard lock(mutex_);
    return budget > 0 && !stopping_;
  });
  pace_.observe_flush(seconds_now() - begin, round.written_bytes);
  return round;
}

bool Flusher::vouch() {
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
    if (!client_->call({.args = {"SET", keys_.directory(), identity}}).ok()) return false;
  }
  vouched_ = identity;
  return true;
}

// Returns how many bytes were dealt with.
std::uint64_t Flusher::flush_page(const std::vector<std::string>& page, std::uint64_t budget, Round& round) {
  std::vector<redis::Command> commands;
  for (const std::string& key : page) commands.push_back({.args = {"PTTL", key}});
  const auto expiries = client_->call(std::move(commands));
  std::vector<ContentHash> dirty;
  for (std::size_t i = 0; i < page.size(); ++i) {
    const auto hash = keys_.hash_of(page[i]);
    if (hash && expiries[i].ok() && expiries[i].reply.integer == -1) dirty.push_back(*hash);  // it is there, and stays
  }
  if (dirty.empty()) return 0;
  const std::unique_ptr<bool[]> present(new bool[dirty.size()]);
  directory_->contains(dirty, {present.get(), dirty.size()});
  struct Fetched {
    std::mutex mutex;
    std::condition_variable done;
    std::vector<PutRequest> chunks;
    std::size_t left;
  };
  std::uint64_t bytes = 0;
  std::vector<ContentHash> taken, wanted;
  for (std::size_t i = 0; i < dirty.size(); ++i) (present[i] ? taken : wanted).push_back(dirty[i]);
  if (!wanted.empty()) {
    const auto fetched = std::make_shared<Fetched>();
    fetched->left = wanted.size();
    tier_->get(wanted, [fetched, wanted](std::size_t i, std::optional<View> view) {  // step 2
      const std::lock_guard lock(fetched->mutex);
      if (view) fetched->chunks.push_back({.hash = wanted[i], .bytes = std::move(*view)});
      if (--fetched->left == 0) fetched->done.notify_all();
    });
    std::vector<PutRequest> chunks;
    {
      std::unique_lock lock(fetched->mutex);
      fetched->done.wait(lock, [&] { return fetched->left == 0; });
      chunks = std::move(fetched->chunks);
    }
    std::vector<PutOutcome> outcomes(chunks.size(), PutOutcome::kRefused);
    directory_->put(chunks, outcomes);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      bytes += chunks[i].bytes.size();
      round.dirty_bytes += chunks[i].bytes.size();
      if (outcomes[i] == PutOutcome::kRefused) continue;
      round.written_bytes += chunks[i].bytes.size();
      ++round.written_chunks;
      taken.push_back(chunks[i].hash);
    }
  }
  round.dirty_chunks += dirty.size();
  directory_->flush();  // step 3
  release(taken, round);
  return std::min(budget, std::max<std::uint64_t>(bytes, 1));
}

void Flusher::release(std::span<const ContentHash> hashes, Round& round) {
  if (hashes.empty()) return;
  const std::unique_ptr<bool[]> durable(new bool[hashes.size()]);
  directory_->durable(hashes, {durable.get(), hashes.size()});  // step 4
  const std::int64_t now = milliseconds_now();
  std::vector<ContentHash> expiring;
  std::vector<redis::Command> commands;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (!durable[i]) continue;
    const std::uint64_t priority =
        options_.priority ? options_.priority(hashes[i], now) : static_cast<std::uint64_t>(now);
    expiring.push_back(hashes[i]);
    commands.push_back({.args = {"PEXPIREAT", keys_.chunk(hashes[i]), std::to_string(expiry_of(priority))}});
  }
  if (commands.empty()) return;
  const auto results = client_->call(std::move(commands));  // step 5
  for (const redis::Result& result : results) round.released_chunks += result.ok();
  directory_->durable(expiring, {durable.get(), expiring.size()});  // step 6
  std::vector<ContentHash> dropped;
  for (std::size_t i = 0; i < expiring.size(); ++i)
    if (!durable[i]) dropped.push_back(expiring[i]);
  if (!dropped.empty()) keep_in_redis(*client_, keys_, dropped);
}

bool Flusher::keep_in_redis(redis::Client& client, const RedisKeys& keys, std::span<const ContentHash> hashes) {
  std::vector<redis::Command> commands;
  for (const ContentHash& hash : hashes) commands.push_back({.args = {"PERSIST", keys.chunk(hash)}});
  const auto results = client.call(std::move(commands), {.deadline = kDropPatience});
  return std::all_of(results.begin(), results.end(), [](const redis::Result& result) { return result.ok(); });
}

}  // namespace alnair
