#include "cache/tiered/landing.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <system_error>

#include "core/block_signals.h"

namespace alnair {
namespace {

// Of a batch: few enough that the first chunk does not wait long for the last one.
constexpr std::size_t kBatch = 32;
constexpr std::uint64_t kBatchBytes = 4ull << 20;

constexpr auto kRest = std::chrono::milliseconds(1);  // how long chunks gather at most
constexpr std::uint64_t kMuch = 256 << 10;            // bytes that are not left to gather

// One thread lands some gigabytes a second; more only where there are cores to spare.
std::size_t most_threads() {
  static const std::size_t most = std::clamp<std::size_t>(std::thread::hardware_concurrency() / 4, 1, 4);
  return most;  // to count cores is to read a file
}

}  // namespace

Landing::Landing(std::function<bool(std::span<Arrival>)> take, std::uint64_t limit_bytes)
    : take_(std::move(take)), limit_(limit_bytes) {}

bool Landing::is_much() const { return queue_.size() >= kBatch || queued_bytes_ >= kMuch; }

void Landing::add(std::vector<Arrival> arrivals) {
  std::uint64_t bytes = 0;
  for (const Arrival& arrival : arrivals) bytes += arrival.bytes.size();
  {
    std::unique_lock lock(mutex_);
    if (!stopping_ && queued_bytes_ + bytes <= limit_) {
      if (idle_ + resting_ == 0 && threads_.size() < most_threads()) {
        try {
          const BlockSignals blocked;
          threads_.emplace_back([this] { run(); });
        } catch (const std::system_error&) {  // the process may have no more threads
        }
      }
      if (!threads_.empty()) {
        queued_bytes_ += bytes;
        std::move(arrivals.begin(), arrivals.end(), std::back_inserter(queue_));
        const bool now = resting_ == 0 || is_much();
        std::condition_variable& who = idle_ > 0 ? changed_ : gathered_;
        lock.unlock();
        if (now) who.notify_one();
        return;
      }
    }
  }
  take_(arrivals);
}

void Landing::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  gathered_.notify_all();
  for (std::thread& thread : threads_)
    if (thread.joinable()) thread.join();
}

void Landing::run() {
  std::vector<Arrival> batch;
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    std::uint64_t bytes = 0;
    for (; !queue_.empty() && batch.size() < kBatch && bytes < kBatchBytes; queue_.pop_front()) {
      bytes += queue_.front().bytes.size();
      queued_bytes_ -= queue_.front().bytes.size();
      batch.push_back(std::move(queue_.front()));
    }
    lock.unlock();
    const bool more_comes = take_(batch);
    batch.clear();
    lock.lock();
    if (!more_comes || bytes >= kMuch || stopping_) continue;
    ++resting_;
    gathered_.wait_for(lock, kRest, [&] { return stopping_ || is_much(); });
    --resting_;
  }
}

}  // namespace alnair
