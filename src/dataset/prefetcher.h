// Walks the order ahead of the consumer and has the nearest tier filled.
//
// Bounds: at most `budget` bytes are ahead of the consumer, and at most kMaxInFlight objects on their way.
//
// Readers may have brought an object that the prefetcher gets to only after they were given it. So each object has a mark, which
// changes when a process brings it: what has another one than when it was drawn is left alone.
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

  struct Object {
    std::uint64_t index = 0;
    std::uint64_t mark = 0;  // when it was drawn, or is started
  };

  // What fetches. Called with the prefetcher's lock held, but for start().
  struct Target {
    std::function<std::uint64_t(std::uint64_t index)> size_of;  // bytes that bringing an object takes
    std::function<std::uint64_t(std::uint64_t index)> mark_of;
    // Starts bringing the objects; `landed` is told how many more have come (or failed), on any thread, until all have.
    std::function<void(std::span<const Object> objects, std::function<void(std::uint64_t count)> landed)> start;
    std::function<bool()> must_wait;  // the tiers behind cannot keep up
    std::function<std::uint64_t()> room;  // bytes that may be ahead now, whatever the budget
    // What the consumer has read, in its order; by whoever calls advance(), without the lock.
    std::function<void(std::span<const std::uint64_t> indices)> consumed = {};
  };

  explicit Prefetcher(Target target);
  ~Prefetcher();

  void set_order(std::vector<std::uint64_t> order, std::uint64_t budget_bytes);
  void extend(std::span<const std::uint64_t> more);
  // Of this order, from its beginning: what the loop is done with, and what readers have been given. Neither goes back.
  void advance(std::uint64_t consumed, std::uint64_t drawn = 0);
  // What a reader of this process is about to fetch for itself: of what is not started, it draws what comes next in the order.
  void draw(std::span<const std::uint64_t> indices);
  void cancel();

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;  // shared with `landed` callbacks that outlive the prefetcher
  std::thread thread_;
  std::mutex start_mutex_;
};

}  // namespace alnair
