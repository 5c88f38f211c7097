// Threads that take chunks in hand when they come: hash them, fill node memory, hand them to their readers.
//
// An event loop has better things to do, and node memory takes many chunks at once more cheaply than one by one: a
// thread takes what has come meanwhile, in batches. Where small chunks come one after the other, it lets them gather for a
// moment.
//
// Bounds: at most `limit` bytes wait; beyond that whoever brings a chunk takes it in hand itself, which holds back the
// event loop. The threads start with the first chunks.
// Thread safety: all methods may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "alnair/core/bytes.h"

namespace alnair {

struct Flight;

// A chunk that has come.
struct Arrival {
  std::shared_ptr<Flight> flight;
  View bytes;
  bool hashed = false;  // a tier found it by its hash; else it is to be hashed
  bool publish = false;  // other nodes do not find it yet where they look first
  bool kept = false;    // node memory has it to stay
};

class Landing {
 public:
  // `take` says whether more chunks are about to come. It must not throw; any number of threads may be in it.
  Landing(std::function<bool(std::span<Arrival>)> take, std::uint64_t limit_bytes);
  ~Landing() { stop(); }

  void add(std::vector<Arrival> arrivals);

  // Takes what waits, and ends the threads. From then on add() takes chunks on the calling thread.
  void stop();

 private:
  void run();

  bool is_much() const;  // too much to be left to gather; mutex_ is held

  const std::function<bool(std::span<Arrival>)> take_;
  const std::uint64_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;   // for a thread that waits for chunks
  std::condition_variable gathered_;  // for one that lets them gather
  std::deque<Arrival> queue_;
  std::uint64_t queued_bytes_ = 0;
  std::size_t idle_ = 0, resting_ = 0;  // threads that wait, for either
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace alnair
