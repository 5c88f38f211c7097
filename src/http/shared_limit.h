// How many requests a client may have in flight, as the other clients of its node leave it slots (request_slots.h).
//
// A slot is kept from one request to the next, so a client alone asks the kernel for nothing. What it does not
// use goes back after four seconds, or as soon as another client lacks it. Of what it uses, half goes back where
// another one has none, and a quarter from time to time where another one has too few: within seconds all hold
// about equally many. A client that gets no slot for a second sends one request regardless, so a holder that hangs
// stops nobody.
//
// Pure but for the slots: the clock is an argument. Not thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "http/request_slots.h"

namespace alnair {

class SharedLimit {
 public:
  using Clock = std::chrono::steady_clock;

  SharedLimit(std::unique_ptr<RequestSlots::Share> share, int limit) : share_(std::move(share)), limit_(limit) {}

  // Whether one more may start beside `in_flight`. Takes a slot if need be.
  bool admits(int in_flight, Clock::time_point now);

  // One has ended; so many are left.
  void ended(int in_flight, Clock::time_point now);

  // To be called at look_at(), and what waits then to be tried again. `queued`: requests wait in the client's queue.
  void look(int in_flight, bool queued, Clock::time_point now);

  // nullopt: nothing is held, and nothing is lacking.
  std::optional<Clock::time_point> look_at() const { return look_at_; }

  // So many connections are to stay open, those in use included.
  int kept() const { return kept_; }

 private:
  using Want = RequestSlots::Share::Want;
  int to_give_back(int in_flight, bool queued, Clock::time_point now);
  void want(Want what);
  void release(int in_flight);

  const std::unique_ptr<RequestSlots::Share> share_;
  const int limit_;
  int kept_ = 0;  // slots held, without those that go back when a request ends
  Want wanted_ = Want::kNothing;
  Clock::duration pause_{};              // between two looks while it lacks slots
  Clock::time_point active_at_{};        // a request began or ended, or began to wait for the first slot
  Clock::time_point got_at_{};           // the first slot
  Clock::time_point gave_at_{};          // slots, to others
  std::optional<Clock::time_point> look_at_;
};

}  // namespace alnair
