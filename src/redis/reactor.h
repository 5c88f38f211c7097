// Waits for descriptors and times: epoll, a way to wake it, and tasks that are due later.
//
// Thread safety: wake() may be called from any thread; all else belongs to one.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

namespace alnair::redis {

class Reactor {
 public:
  using Clock = std::chrono::steady_clock;

  // Throws CacheError when the system refuses a descriptor.
  Reactor();
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Reports `events` of `fd` with `who`, until it is called with 0. A descriptor that was closed is forgotten.
  void watch(int fd, std::uint32_t events, void* who);
  void after(Clock::duration delay, std::function<void()> task);
  void wake();

  // Runs the tasks that are due, then waits, until `latest` at most; `handle` gets what happened.
  void wait(Clock::time_point latest, const std::function<void(void* who, std::uint32_t events)>& handle);

 private:
  struct Task {
    Clock::time_point due;
    std::function<void()> run;
  };
  int epoll_ = -1;
  int wake_ = -1;
  std::vector<bool> watched_;  // by descriptor
  std::vector<Task> tasks_;    // a heap, soonest due first
};

}  // namespace alnair::redis
