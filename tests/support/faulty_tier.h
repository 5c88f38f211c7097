// A tier that misbehaves on request: it drops, delays, corrupts and refuses. What is above the seam must
// return the right bytes all the same, and in time.
//
// Thread safety: as a tier; faults may be changed at any time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "alnair/cache/tier.h"

namespace alnair::testing {

class FaultyTier : public Tier {
 public:
  // Each is a probability, 0 to 1, for one chunk of one call.
  struct Faults {
    double drop_get = 0;     // a miss, though it is there
    double corrupt_get = 0;  // one wrong byte: what a tier that lies about its checks would return
    double shorten_get = 0;  // the last byte is missing
    double delay_get = 0;    // answered `delay` later, from another thread
    double refuse_put = 0;   // kRefused
    double lose_put = 0;     // kStored, and forgotten
    double lie_contains = 0;
    std::chrono::milliseconds delay{0};
    std::chrono::milliseconds put_takes{0};  // every put blocks for so long
  };

  explicit FaultyTier(std::shared_ptr<Tier> tier, std::uint64_t seed = 1)
      : tier_(std::move(tier)), random_(seed) {}
  ~FaultyTier() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (late_.joinable()) late_.join();  // delivers what is late first
  }

  void set(const Faults& faults) {
    std::lock_guard lock(mutex_);
    faults_ = faults;
  }
  std::uint64_t injected() const { return injected_; }

  std::string_view name() const override { return tier_->name(); }

  void get(std::span<const ContentHash> hashes, Found found) override {
    auto shared = std::make_shared<const Found>(std::move(found));
    tier_->get(hashes, [this, shared](std::size_t i, std::optional<View> view) {
      std::chrono::milliseconds delay{0};
      {
        std::lock_guard lock(mutex_);
        if (view && chance(faults_.drop_get)) view.reset();
        if (view && chance(faults_.corrupt_get)) view = corrupted(*view);
        if (view && !view->empty() && chance(faults_.shorten_get)) view = view->part(0, view->size() - 1);
        if (chance(faults_.delay_get)) delay = faults_.delay;
      }
      if (delay.count() == 0) return (*shared)(i, std::move(view));
      answer_later(delay, [shared, i, view = std::move(view)] { (*shared)(i, view); });
    });
  }

  std::optional<View> peek(const ContentHash& hash) override {
    auto view = tier_->peek(hash);
    std::lock_guard lock(mutex_);
    if (view && chance(faults_.drop_get)) view.reset();
    return view;
  }

  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override {
    tier_->contains(hashes, present);
    std::lock_guard lock(mutex_);
    for (bool& one : present) one = one != chance(faults_.lie_contains);
  }

  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override {
    std::chrono::milliseconds takes;
    {
      std::lock_guard lock(mutex_);
      takes = faults_.put_takes;
    }
    if (takes.count() > 0) std::this_thread::sleep_for(takes);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      PutOutcome outcome;
      bool refuse, lose;
      {
        std::lock_guard lock(mutex_);
        refuse = chance(faults_.refuse_put);
        lose = chance(faults_.lose_put);
      }
      if (refuse) {
        outcome = PutOutcome::kRefused;
      } else if (lose) {
        outcome = PutOutcome::kStored;
      } else {
        tier_->put(requests.subspan(i, 1), {&outcome, 1});
      }
      if (i < outcomes.size()) outcomes[i] = outcome;
    }
  }

  void consume(std::span<const ContentHash> hashes) override { tier_->consume(hashes); }
  void hold_dataset(DatasetTag dataset) override { tier_->hold_dataset(dataset); }
  void release_dataset(DatasetTag dataset) override { tier_->release_dataset(dataset); }
  void erase(const ContentHash& hash) override { tier_->erase(hash); }
  void flush() override { tier_->flush(); }
  TierUsage usage() const override { return tier_->usage(); }

 private:
  using Clock = std::chrono::steady_clock;

  bool chance(double probability) {  // under the mutex
    const bool hit = probability > 0 && std::uniform_real_distribution<>(0, 1)(random_) < probability;
    injected_ += hit;
    return hit;
  }

  View corrupted(const View& view) {
    Buffer copy(view.size());
    if (view.empty()) return view;
    std::memcpy(copy.data(), view.data(), view.size());
    copy.data()[random_() % view.size()] ^= std::byte{0x40};
    return std::move(copy).freeze();
  }

  void answer_later(std::chrono::milliseconds delay, std::function<void()> answer) {
    std::lock_guard lock(mutex_);
    answers_.emplace(Clock::now() + delay, std::move(answer));
    if (!late_.joinable()) late_ = std::thread([this] { deliver(); });
    changed_.notify_all();
  }

  void deliver() {
    std::unique_lock lock(mutex_);
    while (!stopping_ || !answers_.empty()) {
      if (answers_.empty()) {
        changed_.wait(lock);
      } else if (const auto due = answers_.begin()->first; !stopping_ && Clock::now() < due) {
        changed_.wait_until(lock, due);
      } else {
        const auto answer = answers_.extract(answers_.begin());
        lock.unlock();
        answer.mapped()();
        lock.lock();
      }
    }
  }

  const std::shared_ptr<Tier> tier_;
  std::atomic<std::uint64_t> injected_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  Faults faults_;
  std::mt19937_64 random_;
  std::multimap<Clock::time_point, std::function<void()>> answers_;
  bool stopping_ = false;
  std::thread late_;
};

}  // namespace alnair::testing
