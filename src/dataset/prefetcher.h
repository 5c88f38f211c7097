// Walks the order ahead of the consumer and has the nearest tier filled.
//
// Bounds: at most `budget` bytes are ahead of the consumer, and at most kMaxInFlight objects on their way.
// Thread safety: all methods may be called from any thread. The thread starts with the first order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace alnair {

class Prefetcher {
 public:
  static constexpr std::uint64_t kMaxInFlight = 256;  // objects

  // What fetches; called by the prefetcher's thread.
  struct Target {
    std::function<std::uint64_t(std::uint64_t index)> size_of;  // bytes of an object
    // Starts bringing the objects; `landed` runs once for each of them, on any thread, also when one failed.
    std::function<void(std::span<const std::uint64_t> indices, std::function<void()> landed)> start;
    std::function<bool()> must_wait;  // the tiers behind cannot keep up
  };

  explicit Prefetcher(Target target);
  ~Prefetcher();

  void set_order(std::vector<std::uint64_t> order, std::uint64_t budget_bytes);
  void extend(std::span<const std::uint64_t> more);
  void advance(std::uint64_t consumed);  // of this order, from its beginning; never goes back
  void cancel();

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;  // shared with `landed` callbacks that outlive the prefetcher
  std::thread thread_;
  std::mutex start_mutex_;
};

}  // namespace alnair
