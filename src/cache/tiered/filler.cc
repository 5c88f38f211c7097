#include "cache/tiered/filler.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace alnair {
namespace {

constexpr std::size_t kBatch = 64;  // chunks a put

// Readers and the fetching threads come first where cores are few; the queue's bound holds them back if need be.
constexpr int kNiceness = 10;

}  // namespace

Filler::Filler(std::vector<std::shared_ptr<Tier>> tiers, std::uint64_t limit)
    : tiers_(std::move(tiers)), limit_(limit) {}

Filler::~Filler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Filler::add(PutRequest request) {
  if (tiers_.empty()) return true;
  {
    const std::lock_guard lock(mutex_);
    // A chunk larger than the limit still passes through an empty queue.
    if (queued_bytes_ > 0 && queued_bytes_ + request.bytes.size() > limit_) return false;
    queued_bytes_ += request.bytes.size();
    queue_.push_back(std::move(request));
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  changed_.notify_all();
  return true;
}

bool Filler::behind() const {
  const std::lock_guard lock(mutex_);
  return queued_bytes_ > limit_ / 2;
}

void Filler::flush() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty() && queued_bytes_ == 0; });
  }
  for (const auto& tier : tiers_) tier->flush();
}

void Filler::run() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNiceness);  // of this thread alone, on Linux
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::size_t count = std::min(kBatch, queue_.size());
    std::vector<PutRequest> batch(std::make_move_iterator(queue_.begin()),
                                  std::make_move_iterator(queue_.begin() + static_cast<std::ptrdiff_t>(count)));
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(count));
    std::uint64_t bytes = 0;
    for (const auto& request : batch) bytes += request.bytes.size();

    lock.unlock();
    for (const auto& tier : tiers_) tier->put(batch, {});
    batch.clear();
    lock.lock();
    queued_bytes_ -= bytes;
    changed_.notify_all();
  }
}

}  // namespace alnair
