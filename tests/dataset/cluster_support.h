// Nodes that share Redis, for tests: each a dataset with a cache directory and node memory of its own, over one fake S3 that counts.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "alnair/dataset/dataset.h"
#include "cache/redis/leases.h"
#include "support/fake_s3.h"
#include "support/redis_servers.h"
#include "support/s3_reads.h"
#include "support/temporary_directory.h"

namespace alnair::testing {

class DatasetCluster : public ::testing::Test {
 public:
  static constexpr int kObjects = 120;

 protected:
  DatasetCluster() {
    for (int i = 0; i < kObjects; ++i) {
      contents_.push_back(random_bytes(100 + static_cast<std::size_t>(i) * 397, static_cast<unsigned>(i)));
      s3_.put("data/" + std::to_string(1000 + i), contents_.back());
    }
  }

  DatasetOptions node(int number, const std::string& redis) {
    DatasetOptions result;
    result.source = "s3://" + s3_.bucket();
    result.s3 = s3_.options();
    result.s3.hedging = false;
    result.cache.cache_dir = disk_ / ("cache" + std::to_string(number));
    result.cache.memory_dir = memory_ / ("memory" + std::to_string(number));
    result.cache.memory_limit = 64 << 20;
    result.cache.disk_limit = 64 << 20;
    result.cache.redis = redis;
    return result;
  }

  // Reads everything in an order of its own, in batches. Whether every sample was right.
  bool read_all_right(Dataset& dataset, unsigned seed, bool prefetch,
                      const std::function<void(std::size_t)>& after_batch = {}) {
    std::vector<std::uint64_t> order(kObjects);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    if (prefetch) dataset.prefetch(order);
    for (std::size_t begin = 0; begin < order.size(); begin += 8) {
      const std::span<const std::uint64_t> batch(order.data() + begin, std::min<std::size_t>(8, order.size() - begin));
      const auto samples = dataset.read_batch(batch);
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (samples[i].error || samples[i].bytes.text() != contents_[batch[i]]) return false;
      dataset.prefetch_advance(begin + batch.size());
      if (after_batch) after_batch(begin / 8);
    }
    return true;
  }

  // A node in a process of its own, which opens the dataset, reads it once, and ends.
  pid_t start_node(int number, const std::string& redis, unsigned seed, bool prefetch) {
    const pid_t child = fork();
    if (child == 0) {
      bool right = false;
      try {
        const auto dataset = Dataset::open(node(number, redis));
        right = read_all_right(*dataset, seed, prefetch);
        dataset->flush();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "node %d: %s\n", number, error.what());
      }
      _exit(right ? 0 : 1);
    }
    return child;
  }

  static int status_of(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return status;
  }

  // A node in this process that has nothing yet, reads everything once, and is gone with all that it had.
  bool fresh_node_reads_all_right(const std::string& redis, const std::function<void(std::size_t)>& after_batch = {}) {
    const int number = next_node_++;
    const DatasetOptions options = node(number, redis);
    bool right = false;
    {
      const auto dataset = Dataset::open(options);
      right = read_all_right(*dataset, static_cast<unsigned>(number), number % 2 == 0, after_batch);
      dataset->flush();
    }
    std::filesystem::remove_all(options.cache.cache_dir);
    std::filesystem::remove_all(options.cache.memory_dir);
    return right;
  }

  // Two nodes at a time read epochs, while `trouble` comes and goes in the middle of one, and until each has read one that began
  // after it. Every sample must be right.
  void read_during(const std::string& redis, const std::function<void()>& trouble) {
    std::atomic<int> batches{0}, wrong{0};
    std::atomic<bool> over{false};
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i)
      readers.emplace_back([&] {
        for (bool last = false; !last;) {
          last = over;
          try {
            if (!fresh_node_reads_all_right(redis, [&](std::size_t) { ++batches; })) ++wrong;
          } catch (const std::exception& error) {
            ADD_FAILURE() << error.what();
            return;
          }
        }
      });
    EXPECT_TRUE(eventually([&] { return batches >= 3; }));
    try {
      trouble();
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    over = true;
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(wrong, 0);
  }

  int fetched() const { return s3_.count(FakeS3::Kind::kGet); }

  // What was lost is fetched again and passed on: a fresh node needs no fetch, as soon as this process has found the servers well.
  void expect_whole_again(const std::string& redis) {
    EXPECT_TRUE(eventually([&] {
      const int before = fetched();
      EXPECT_TRUE(fresh_node_reads_all_right(redis));
      return fetched() == before;
    }));
  }

  void slow_source() {
    s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
      if (asked.kind == FakeS3::Kind::kGet) reply.first_byte_delay = std::chrono::milliseconds(20);
    });
  }

  static std::size_t leases_in(RedisServer& server) {
    const RedisKeys keys("alnair", "default");
    std::size_t fields = 0;
    for (std::uint32_t bucket = 0; bucket < RedisKeys::kLeaseBuckets; ++bucket)
      fields += static_cast<std::size_t>(server.command({"HLEN", keys.lease_bucket(bucket)}).integer);
    return fields;
  }

  // Whether nothing but what lives keeps a lease, once somebody has swept.
  static bool no_lease_is_left(RedisServer& server) {
    Leases leases(redis::open(server.url()), RedisKeys("alnair", "default"));
    return eventually([&] {
      leases.sweep([] {});
      return leases_in(server) == 0;
    });
  }

  FakeS3 s3_;
  std::vector<std::string> contents_;
  TemporaryDirectory disk_;
  TemporaryDirectory memory_{"/dev/shm"};
  std::atomic<int> next_node_{1000};
};

}  // namespace alnair::testing
