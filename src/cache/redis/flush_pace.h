// How much of what lies only in Redis must be written to the directory now, so that Redis never runs out of chunks that it may
// evict. Pure: no clock, no I/O.
//
// Redis has room for `free` bytes more, and may evict what is durable. It is given new bytes at a rate that is measured here. The
// directory takes bytes at a rate that is measured too. So the bytes that may go (free and durable ones) last for some time, and
// writing begins when that time is not long compared with the time that writing takes.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace alnair {

class FlushPace {
 public:
  struct Limits {
    double low_mark = 0.5;                        // below this share of maxmemory nothing is written
    std::chrono::seconds horizon{60};             // write when what may go lasts no longer than this
    std::uint64_t least_bytes = 64ull << 20;      // of one round that writes at all
    std::uint64_t most_bytes = 8192ull << 20;     // of one round
  };
  explicit FlushPace(Limits limits) : limits_(limits) {}

  // What the servers use at a moment, in seconds of any clock that only goes forward.
  void observe_memory(double at, std::uint64_t used) {
    if (seen_ && at > last_at_) {
      // What was evicted meanwhile was written, too: growth never counts as negative.
      const double rate = used > last_used_ ? static_cast<double>(used - last_used_) / (at - last_at_) : 0.0;
      growth_ = blend(growth_, rate, at - last_at_);
    }
    seen_ = true;
    last_at_ = at;
    last_used_ = used;
  }

  // So many bytes took the directory so long.
  void observe_flush(double seconds, std::uint64_t bytes) {
    if (seconds > 0 && bytes > 0) flush_rate_ = blend(flush_rate_, static_cast<double>(bytes) / seconds, 10.0);
  }

  double growth() const { return growth_; }          // bytes a second
  double flush_rate() const { return flush_rate_; }  // likewise; 0: unknown

  // Seconds until Redis is at its limit, at the present growth; infinite (1e18) when it does not grow.
  double seconds_to_full(std::uint64_t used, std::uint64_t maxmemory) const {
    const double free = used < maxmemory ? static_cast<double>(maxmemory - used) : 0.0;
    return growth_ > 0 ? free / growth_ : (free > 0 ? 1e18 : 0.0);
  }

  // The bytes to write in this round, of `dirty` ones that only Redis has.
  std::uint64_t amount(std::uint64_t used, std::uint64_t maxmemory, std::uint64_t dirty) const {
    if (dirty == 0 || maxmemory == 0) return 0;
    const bool above_mark = static_cast<double>(used) >= limits_.low_mark * static_cast<double>(maxmemory);
    const double takes = flush_rate_ > 0 ? static_cast<double>(dirty) / flush_rate_ : 0.0;
    const double lasts = seconds_to_full(used, maxmemory);
    const bool soon = lasts < std::max(static_cast<double>(limits_.horizon.count()), 2 * takes);
    if (!above_mark && !soon) return 0;
    // What will have come by the end of the horizon, and whatever is above the mark already.
    const double coming = growth_ * static_cast<double>(limits_.horizon.count());
    const double above = std::max(0.0, static_cast<double>(used) - limits_.low_mark * static_cast<double>(maxmemory));
    const auto wanted = static_cast<std::uint64_t>(std::max(coming, above));
    return std::min(dirty, std::clamp(wanted, std::min(limits_.least_bytes, limits_.most_bytes), limits_.most_bytes));
  }

  // Seconds to wait after a round, in place of `frequency`: a directory that is slow is left alone for as long as the round took, one that
  // takes nothing for twice as long each time, a minute at most.
  double pause(double frequency, double took, std::uint64_t written, std::uint64_t refused) {
    constexpr double kLongest = 60.0;
    if (refused > 0 && written == 0)
      refusals_ = std::min(refusals_ + 1, 16);
    else
      refusals_ = 0;
    const double patient = frequency * static_cast<double>(1u << refusals_);
    return std::max(frequency, std::min(std::max(took, patient), kLongest));
  }

 private:
  // An average that forgets over about half a minute.
  static double blend(double before, double now, double seconds) {
    const double weight = std::min(1.0, seconds / 30.0 + 0.2);
    return before == 0 ? now : before + weight * (now - before);
  }

  const Limits limits_;
  bool seen_ = false;
  double last_at_ = 0, growth_ = 0, flush_rate_ = 0;
  std::uint64_t last_used_ = 0;
  int refusals_ = 0;
};

}  // namespace alnair
