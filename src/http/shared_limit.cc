#include "http/shared_limit.h"

#include <algorithm>

namespace alnair {
namespace {

using std::chrono::milliseconds;

constexpr auto kLook = milliseconds(50);         // whether others lack slots
constexpr auto kFirstPause = milliseconds(2);    // between attempts to get one
constexpr auto kLongestPause = milliseconds(16);
constexpr auto kOthersFirst = milliseconds(20);  // nothing is taken after giving back
constexpr auto kTurn = milliseconds(250);        // the last slot is used for so long
constexpr auto kBalance = milliseconds(500);     // between givings to those that have some
constexpr auto kPatience = milliseconds(1000);   // without a slot
constexpr auto kLinger = milliseconds(4000);     // of slots that are not used, as of idle connections (transfer.cc)

}  // namespace

bool SharedLimit::admits(int in_flight, Clock::time_point now) {
  if (in_flight < kept_) {
    active_at_ = now;
    return true;
  }
  if (share_->held() == kept_ && now >= gave_at_ + kOthersFirst && share_->take(limit_)) {
    if (++kept_ == 1) got_at_ = now;
    want(Want::kNothing);
    active_at_ = now;
    if (!look_at_) look_at_ = now + kLook;
    return true;
  }
  if (wanted_ == Want::kNothing) {
    if (in_flight == 0) active_at_ = now;
    pause_ = kFirstPause;
    look_at_ = now + pause_;
  }
  want(kept_ == 0 ? Want::kFirst : Want::kMore);
  if (in_flight > 0 || now < active_at_ + kPatience) return false;
  active_at_ = now;
  return true;
}

void SharedLimit::ended(int in_flight, Clock::time_point now) {
  release(in_flight);
  active_at_ = now;
}

void SharedLimit::look(int in_flight, bool queued, Clock::time_point now) {
  if (!queued) want(Want::kNothing);
  kept_ -= to_give_back(in_flight, queued, now);
  release(in_flight);
  if (wanted_ != Want::kNothing) {
    pause_ = std::min<Clock::duration>(2 * pause_, kLongestPause);
    look_at_ = now + pause_;
  } else if (share_->held() > 0) {
    look_at_ = now + kLook;
  } else {
    look_at_.reset();
  }
}

int SharedLimit::to_give_back(int in_flight, bool queued, Clock::time_point now) {
  const int unused = std::max(0, kept_ - in_flight);
  const Want others = share_->others_want();
  if (others == Want::kNothing) return !queued && in_flight == 0 && now >= active_at_ + kLinger ? kept_ : 0;
  int count = 0;
  if (!queued) {
    count = unused;
  } else if (others == Want::kFirst) {
    count = kept_ > 1 ? kept_ / 2 : static_cast<int>(now >= got_at_ + kTurn);
  } else if (now >= gave_at_ + kBalance) {
    count = kept_ > 1 ? std::max(1, kept_ / 4) : 0;
  }
  count = std::min(count, kept_);
  if (count > 0) gave_at_ = now;
  return count;
}

void SharedLimit::want(Want what) {
  if (what == wanted_) return;
  share_->want(what);
  wanted_ = what;
}

// Gives back what no request uses, down to what is kept.
void SharedLimit::release(int in_flight) {
  while (share_->held() > std::max(kept_, in_flight)) share_->give_back();
}

}  // namespace alnair
