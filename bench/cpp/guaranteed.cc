// Guaranteed mode under too many writes: chunks come twice as fast as the directory takes them.
//
//   bench_guaranteed URL DIRECTORY SECONDS MB_PER_S     of the directory, which is slowed down to that; bench/guaranteed starts Redis
//
// One thread stores chunks in Redis, one reads stored ones at random (Redis, then the directory), and the flusher does its work. In
// the end every chunk that Redis took is read back. Prints one line of JSON.
#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "cache/directory/spill_tier.h"
#include "cache/redis/cluster_over_redis.h"
#include "cache/redis/flusher.h"
#include "cpu_seconds.h"

namespace {

using namespace alnair;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::size_t kChunk = 110'000;
constexpr std::size_t kBatch = 8;

// The directory, as slow as it is told to be.
class SlowTier : public DurableTier {
 public:
  SlowTier(std::shared_ptr<DurableTier> tier, double bytes_per_second) : tier_(std::move(tier)), rate_(bytes_per_second) {}

  std::string_view name() const override { return tier_->name(); }
  void get(std::span<const ContentHash> hashes, Found found) override { tier_->get(hashes, std::move(found)); }
  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override { tier_->contains(hashes, present); }
  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      tier_->put(requests.subspan(i, 1), outcomes.subspan(i, 1));
      std::this_thread::sleep_for(std::chrono::duration<double>(static_cast<double>(requests[i].bytes.size()) / rate_));
    }
  }
  void erase(const ContentHash& hash) override { tier_->erase(hash); }
  void flush() override { tier_->flush(); }
  TierUsage usage() const override { return tier_->usage(); }
  void durable(std::span<const ContentHash> hashes, std::span<bool> durable) override { tier_->durable(hashes, durable); }
  std::string identity() override { return tier_->identity(); }

 private:
  const std::shared_ptr<DurableTier> tier_;
  const double rate_;
};

bool has(Tier& tier, const ContentHash& hash) {
  const auto answer = std::make_shared<std::promise<bool>>();
  auto future = answer->get_future();
  tier.get({&hash, 1}, [answer](std::size_t, std::optional<View> view) { answer->set_value(view.has_value()); });
  return future.get();
}

PutRequest random_chunk(std::mt19937_64& random) {
  Buffer buffer(kChunk);
  for (std::size_t at = 0; at + 8 <= kChunk; at += 8) {
    const std::uint64_t word = random();
    std::memcpy(buffer.data() + at, &word, 8);
  }
  PutRequest request;
  request.bytes = std::move(buffer).freeze();
  request.hash = content_hash(request.bytes.bytes());
  return request;
}

std::uint64_t evicted_keys(redis::Client& client) {
  std::uint64_t sum = 0;
  for (const auto& node : client.call_on_masters({.args = {"INFO", "stats"}, .key = redis::Command::kNoKey})) {
    const std::string_view text = node.result.reply.text();
    const auto at = text.find("evicted_keys:");
    if (at == text.npos) continue;
    std::uint64_t keys = 0;
    std::from_chars(text.data() + at + 13, text.data() + text.size(), keys);
    sum += keys;
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return fmt::print(stderr, "see the top of bench/cpp/guaranteed.cc\n"), 2;
  const double seconds = std::atof(argv[3]), rate = std::atof(argv[4]) * 1e6;
  const RedisKeys keys("bench", "default");
  const auto client = redis::open(argv[1]);
  const auto redis = std::make_shared<RedisTier>(client, keys);
  const auto cluster = std::make_shared<ClusterOverRedis>(client, keys, redis);
  SpillOptions spill;
  spill.directories = {argv[2]};
  spill.key_namespace = "bench";
  spill.limit_bytes = 1ull << 40;
  spill.before_drop = [&](std::span<const ContentHash> hashes) { return Flusher::keep_in_redis(*client, keys, hashes); };
  const auto directory = std::make_shared<SlowTier>(open_spill(spill), rate);
  Flusher::Options options;
  options.frequency = 500ms;
  options.pace.least_bytes = 8 << 20;
  options.pace.most_bytes = 64 << 20;
  auto flusher = std::make_unique<Flusher>(client, keys, redis, directory, cluster, options);
  flusher->start();

  std::mutex mutex;
  std::vector<ContentHash> stored;  // guarded by mutex
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> reads{0}, failed_reads{0};
  std::thread reader([&] {
    std::mt19937_64 random(2);
    while (!over) {
      ContentHash hash;
      {
        const std::lock_guard lock(mutex);
        if (!stored.empty()) hash = stored[random() % stored.size()];
      }
      if (hash == ContentHash{}) {
        std::this_thread::sleep_for(1ms);
        continue;
      }
      ++reads;
      if (!has(*redis, hash) && !has(*directory, hash)) ++failed_reads;
      std::this_thread::sleep_for(1ms);  // the writer is to be the load
    }
  });

  std::mt19937_64 random(1);
  std::uint64_t offered = 0, refused = 0;
  const auto start = steady_clock::now();
  while (steady_clock::now() - start < std::chrono::duration<double>(seconds)) {
    std::vector<PutRequest> batch;
    for (std::size_t i = 0; i < kBatch; ++i) batch.push_back(random_chunk(random));
    std::vector<PutOutcome> outcomes(batch.size(), PutOutcome::kRefused);
    redis->put(batch, outcomes);
    {
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < batch.size(); ++i) {
        if (outcomes[i] == PutOutcome::kStored) stored.push_back(batch[i].hash);
        refused += outcomes[i] == PutOutcome::kRefused;
      }
    }
    offered += kBatch;
    std::this_thread::sleep_until(
        start + std::chrono::duration_cast<steady_clock::duration>(
                    std::chrono::duration<double>(static_cast<double>(offered * kChunk) / (2 * rate))));
  }
  const double took = std::chrono::duration<double>(steady_clock::now() - start).count();
  over = true;
  reader.join();
  flusher.reset();

  std::uint64_t in_redis = 0, in_directory = 0, lost = 0;
  for (const ContentHash& hash : stored) {
    if (has(*redis, hash))
      ++in_redis;
    else if (has(*directory, hash))
      ++in_directory;
    else
      ++lost;
  }
  fmt::print("{{\"seconds\": {:.1f}, \"cpu_seconds\": {:.1f}, \"offered\": {}, \"stored\": {}, \"refused\": {}, \"reads\": {}, \"failed_reads\": {}, "
             "\"evicted_keys\": {}, \"in_redis\": {}, \"only_in_directory\": {}, \"lost\": {}, \"directory_bytes\": {}}}\n",
             took, cpu_seconds(), offered, stored.size(), refused, reads.load(), failed_reads.load(), evicted_keys(*client), in_redis,
             in_directory, lost, directory->usage().used_bytes);
  cluster->close();
  return lost + failed_reads == 0 ? 0 : 1;
}
