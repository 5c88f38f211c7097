#include "dataset/look_ahead_seat.h"

#include <algorithm>

namespace alnair {
namespace {

constexpr std::chrono::milliseconds kCountEvery{100};

constexpr std::uint64_t kReaders = lock_offset(LockPurpose::kReader);

std::uint64_t lock_of(std::uint64_t seat) { return lock_offset(LockPurpose::kLookAhead, seat); }

}  // namespace

LookAheadSeat::LookAheadSeat(LockFile& locks) : locks_(locks) { locks_.try_lock_shared(kReaders); }

LookAheadSeat::~LookAheadSeat() {
  locks_.unlock(kReaders);
  if (seat_) locks_.unlock(lock_of(*seat_));
}

void LookAheadSeat::join() {
  const std::lock_guard lock(mutex_);
  if (++joined_ > 1) return;
  for (std::uint64_t seat = 0; seat < kSeats && !seat_; ++seat)
    if (locks_.try_lock_exclusive(lock_of(seat))) seat_ = seat;
  counted_ = {};
}

void LookAheadSeat::leave() {
  const std::lock_guard lock(mutex_);
  if (--joined_ > 0 || !seat_) return;
  locks_.unlock(lock_of(*seat_));
  seat_.reset();
}

bool LookAheadSeat::is_alone() { return locks_.is_only_holder(kReaders); }

std::uint64_t LookAheadSeat::taken() {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now - counted_ < kCountEvery) return taken_;
  counted_ = now;
  taken_ = 0;
  for (std::uint64_t seat = 0; seat < kSeats; ++seat) taken_ += locks_.is_locked(lock_of(seat)) ? 1 : 0;
  return taken_ = std::max<std::uint64_t>(taken_, 1);
}

}  // namespace alnair
