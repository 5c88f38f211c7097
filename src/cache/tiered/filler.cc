#include "cache/tiered/filler.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "core/block_signals.h"

namespace alnair {
namespace {

constexpr std::size_t kBatch = 64;  // chunks a put
constexpr auto kIdle = std::chrono::milliseconds(200);

// Readers and the fetching threads come first where cores are few; the queues' bounds hold them back if need be.
constexpr int kNiceness = 10;

}  // namespace

Filler::Filler(Options options) : options_(std::move(options)) {}

Filler::~Filler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Filler::add(PutRequest request, bool in_memory) {
  if (options_.tiers.empty()) return true;
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t size = request.bytes.size();
    Queue& queue = in_memory ? patient_ : urgent_;
    // A chunk larger than the limit still passes through an empty queue.
    if (queue.bytes > 0 && queue.bytes + size > (in_memory ? options_.patient_limit : options_.limit)) return false;
    if (!start()) return false;
    wake = !in_memory || queue.bytes == 0 || queue.bytes > options_.patient_limit / 2;
    if (in_memory) request.bytes = {};
    queue.chunks.push_back({std::move(request), size});
    queue.bytes += size;
    ++unwritten_;
    last_add_ = Clock::now();
  }
  if (wake) changed_.notify_one();
  return true;
}

bool Filler::start() {
  if (thread_.joinable()) return true;
  const BlockSignals blocked;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {  // the process may have no more threads
    return false;
  }
  return true;
}

bool Filler::behind() const {
  const std::lock_guard lock(mutex_);
  return urgent_.bytes > options_.limit / 2 || patient_.bytes > options_.patient_limit / 8 * 7;
}

void Filler::flush() {
  {
    std::unique_lock lock(mutex_);
    ++flushing_;
    changed_.notify_one();
    written_.wait(lock, [&] { return unwritten_ == 0; });
    --flushing_;
  }
  for (const auto& tier : options_.tiers) tier->flush();
}

bool Filler::due() const {
  if (!urgent_.chunks.empty()) return true;
  if (patient_.chunks.empty()) return false;
  return stopping_ || flushing_ > 0 || patient_.bytes > options_.patient_limit / 2 || Clock::now() - last_add_ >= kIdle;
}

void Filler::run() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNiceness);  // of this thread alone, on Linux
  std::unique_lock lock(mutex_);
  while (true) {
    if (due()) {
      write_batch(urgent_.chunks.empty() ? patient_ : urgent_, lock);
    } else if (stopping_) {
      return;  // nothing is left
    } else if (patient_.chunks.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, last_add_ + kIdle);
    }
  }
}

void Filler::write_batch(Queue& queue, std::unique_lock<std::mutex>& lock) {
  std::vector<PutRequest> batch;
  std::uint64_t bytes = 0;
  for (; !queue.chunks.empty() && batch.size() < kBatch; queue.chunks.pop_front()) {
    batch.push_back(std::move(queue.chunks.front().request));
    bytes += queue.chunks.front().size;
  }
  const std::size_t count = batch.size();
  lock.unlock();
  if (&queue == &patient_) {
    // What node memory has lost meanwhile will be fetched again one day.
    std::erase_if(batch, [&](PutRequest& request) {
      auto view = options_.memory->peek(request.hash);
      if (view) request.bytes = std::move(*view);
      return !view;
    });
  }
  for (const auto& tier : options_.tiers) tier->put(batch, {});
  batch.clear();
  lock.lock();
  queue.bytes -= bytes;
  unwritten_ -= count;
  if (unwritten_ == 0) written_.notify_all();
}

}  // namespace alnair
