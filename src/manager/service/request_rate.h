// How many requests a second a client may cause in S3: the source that its datasets are read with waits in between.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "alnair/source/object_source.h"

namespace alnair::manager {

// A client's rate. A second's worth may go at once; then one after the other. Thread-safe.
class RequestRate {
 public:
  using Time = std::chrono::steady_clock::time_point;

  ~RequestRate();  // what waits is begun at once

  void set(std::uint64_t per_second);  // 0: no limit

  // When a request that is wanted now may begin. Pure but for the state.
  Time reserve(Time now);

  void wait(const Interrupt& interrupt);               // for a request's turn
  void run(std::function<void()> begin);               // runs it in its turn: now, or on a thread of this object

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t per_second_ = 0;
  Time next_{};
  std::deque<std::pair<Time, std::function<void()>>> waiting_;
  bool ending_ = false;
  std::thread thread_;  // made when something waits for the first time
};

// `source`, with each page, look and read counted against `rate`. Retries of the source count once.
std::shared_ptr<ObjectSource> limited_source(std::shared_ptr<ObjectSource> source, std::shared_ptr<RequestRate> rate);

}  // namespace alnair::manager
