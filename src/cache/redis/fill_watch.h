// What the servers' eviction policy asks of whoever fills them (fill_rule.h), asked for again every few seconds: it may be changed
// while jobs run. Thread-safe; waits for nothing, has no thread.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>

#include "cache/redis/fill_rule.h"
#include "cache/redis/redis_keys.h"

namespace alnair {

class FillWatch : public std::enable_shared_from_this<FillWatch> {
 public:
  // `directory`: this process has a shared directory.
  FillWatch(std::shared_ptr<redis::Client> client, RedisKeys keys, bool directory,
            std::chrono::milliseconds ask_after = std::chrono::seconds(5))
      : client_(std::move(client)), keys_(std::move(keys)), directory_(directory), ask_after_(ask_after) {}

  // The rule for so many bytes more. Until the servers have answered for the first time their policy is unknown.
  FillRule rule(std::uint64_t bytes = 0);

 private:
  using Clock = std::chrono::steady_clock;
  void ask();

  const std::shared_ptr<redis::Client> client_;
  const RedisKeys keys_;
  const bool directory_;
  const std::chrono::milliseconds ask_after_;
  std::mutex mutex_;
  redis::ServerFacts facts_;      // the last that the servers told
  bool relied_on_ = false;        // the namespace records a directory
  std::uint64_t since_ = 0;       // bytes that this process has stored after that
  bool asking_ = false;
  Clock::time_point asked_{};     // when they were last asked; none: never
};

}  // namespace alnair
