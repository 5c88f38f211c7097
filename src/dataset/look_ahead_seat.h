// How many processes of a node look ahead: they share its transit area. Each has a seat, a lock that dies with it. And whether others
// read at all.
//
// Thread safety: all methods may be called from any thread. A forked child makes its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include "cache/lock_file.h"

namespace alnair {

class LookAheadSeat {
 public:
  static constexpr std::uint64_t kSeats = 64;  // more processes than that share the last one's part

  // This process reads through node memory from now on.
  explicit LookAheadSeat(LockFile& locks);
  ~LookAheadSeat();

  // Each join() needs a leave(); the process has its seat in between.
  void join();
  void leave();

  // Whether there is no other object of this kind: nobody else reads. Asks the kernel.
  bool is_alone();

  // Processes with a seat, this one included; at least 1. Asks the kernel every 100 ms.
  std::uint64_t taken();

 private:
  LockFile& locks_;
  std::mutex mutex_;
  std::uint64_t joined_ = 0;
  std::optional<std::uint64_t> seat_;
  std::uint64_t taken_ = 1;
  std::chrono::steady_clock::time_point counted_{};
};

}  // namespace alnair
