// Reads values of a Redis Cluster in batches as fast as it can, and says how fast that was, as one line of JSON.
//
//   bench_redis_get URL fill COUNT BYTES
//   bench_redis_get URL get COUNT SECONDS BATCH IN_FLIGHT CHECK     IN_FLIGHT batches at a time; CHECK 1: hash every
//   value bench_redis_get URL batches COUNT BATCHES                       milliseconds of each batch of COUNT keys
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <vector>

#include "alnair/core/hash.h"
#include "cpu_seconds.h"
#include "redis/client.h"

namespace {

using namespace alnair::redis;
using std::chrono::steady_clock;

std::string key_of(std::uint64_t i) { return fmt::format("alnair:bench:{:016x}", i * 0x9e3779b97f4a7c15u); }

double since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

int fill(Client& redis, std::uint64_t count, std::size_t bytes) {
  std::mt19937_64 random(1);
  for (std::uint64_t begin = 0; begin < count; begin += 64) {
    std::vector<Command> writes;
    for (std::uint64_t i = begin; i < std::min(count, begin + 64); ++i) {
      std::string value(bytes, '\0');
      for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
        const std::uint64_t word = random();
        std::memcpy(value.data() + at, &word, 8);
      }
      writes.push_back({.args = {"SET", key_of(i), std::move(value)}});
    }
    for (const Result& result : redis.call(std::move(writes)))
      if (!result.ok()) return fmt::print(stderr, "{}\n", result.message), 1;
  }
  return 0;
}

// Keeps batches going until the time is up.
class Reader {
 public:
  Reader(Client& redis, std::uint64_t count, std::size_t batch, bool check)
      : redis_(redis), count_(count), batch_(batch), check_(check) {}

  void run(double seconds, int in_flight) {
    end_ = steady_clock::now() +
           std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
    open_ = in_flight;
    for (int i = 0; i < in_flight; ++i) start();
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return !arrived_.empty() || open_ == 0; });
      if (arrived_.empty()) return;
      std::vector<alnair::View> views;
      views.swap(arrived_);
      lock.unlock();
      for (const alnair::View& view : views) sum_ ^= alnair::first64(alnair::content_hash(view.bytes()));
      views.clear();
      lock.lock();
    }
  }

  std::atomic<std::uint64_t> values{0}, bytes{0}, failures{0};

 private:
  void start() {
    if (steady_clock::now() >= end_) {
      const std::lock_guard lock(mutex_);
      --open_;
      return changed_.notify_all();
    }
    std::vector<std::string> keys;
    keys.reserve(batch_);
    for (std::size_t i = 0; i < batch_; ++i) keys.push_back(key_of(next_.fetch_add(1) % count_));
    redis_.get(std::move(keys), [this, left = std::make_shared<std::size_t>(batch_)](std::size_t, Result&& result) {
      if (!result.ok() || result.reply.is_nil()) {
        ++failures;
      } else {
        ++values;
        bytes += result.reply.bytes.size();
        if (check_) {
          const std::lock_guard lock(mutex_);
          arrived_.push_back(std::move(result.reply.bytes));
          if (arrived_.size() == 1) changed_.notify_all();
        }
      }
      if (--*left == 0) start();
    });
  }

  Client& redis_;
  const std::uint64_t count_;
  const std::size_t batch_;
  const bool check_;
  steady_clock::time_point end_;
  std::atomic<std::uint64_t> next_{0};
  std::uint64_t sum_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<alnair::View> arrived_;  // guarded by mutex_
  int open_ = 0;                       // guarded by mutex_
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return fmt::print(stderr, "see the top of bench/cpp/redis_get.cc\n"), 2;
  const auto redis = open(argv[1]);
  const std::string what = argv[2];
  const std::uint64_t count = std::strtoull(argv[3], nullptr, 10);
  if (what == "fill") return fill(*redis, count, std::strtoull(argv[4], nullptr, 10));
  if (what == "batches") {
    std::vector<std::string> keys;
    for (std::uint64_t i = 0; i < count; ++i) keys.push_back(key_of(i));
    std::vector<double> milliseconds;
    std::vector<int> failures;
    for (int i = 0; i < std::atoi(argv[4]); ++i) {
      const auto start = steady_clock::now();
      int failed = 0;
      for (const Result& result : redis->call_get(keys)) failed += result.ok() ? 0 : 1;
      milliseconds.push_back(since(start) * 1000);
      failures.push_back(failed);
    }
    fmt::print("{{\"milliseconds\": [{:.1f}], \"failures\": [{}]}}\n", fmt::join(milliseconds, ", "),
               fmt::join(failures, ", "));
    return 0;
  }
  if (argc != 8) return 2;
  redis->check();
  Reader reader(*redis, count, std::strtoull(argv[5], nullptr, 10), std::atoi(argv[7]) != 0);
  const double cpu = cpu_seconds();
  const auto start = steady_clock::now();
  reader.run(std::atof(argv[4]), std::atoi(argv[6]));
  const double seconds = since(start);
  fmt::print("{{\"values\": {}, \"bytes\": {}, \"seconds\": {:.4f}, \"cpu_seconds\": {:.4f}, \"failures\": {}}}\n",
             reader.values.load(), reader.bytes.load(), seconds, cpu_seconds() - cpu, reader.failures.load());
  return 0;
}
