#include "cache/tiered/filler.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "core/block_signals.h"

namespace alnair {
namespace {

constexpr std::size_t kBatch = 64;  // chunks a put, at most
constexpr std::uint64_t kBatchBytes = 8ull << 20;
constexpr auto kIdle = std::chrono::milliseconds(200);

// How long tiers that refused so many chunks in a row are not asked for their dataset: each would be queued, written and refused.
constexpr std::size_t kRefusals = 64;
constexpr auto kRefusal = std::chrono::seconds(1);

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
  in_memory = in_memory && !is_crowded(request.bytes.size());
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (request.dataset == refused_dataset_ && now < refused_until_) return false;
    const std::uint64_t size = request.bytes.size();
    // A chunk larger than the limit still passes through an empty queue.
    const bool patient = in_memory && patient_.has_room(size, options_.patient_limit);
    if (!patient && !urgent_.has_room(size, options_.limit)) return false;
    if (!start()) return false;
    Queue& queue = patient ? patient_ : urgent_;
    wake = !patient || queue.bytes == 0;
    if (patient)
      request.bytes = {};
    else
      held_.insert_or_assign(request.hash, request.bytes);
    queue.chunks.push_back({next_number_++, std::move(request), size});
    queue.bytes += size;
    wake = wake || much_waits();
    last_add_ = now;
  }
  if (wake) changed_.notify_one();
  return true;
}

// To ask is to count files: not for each chunk.
bool Filler::is_crowded(std::uint64_t more) {
  if (uncounted_.fetch_add(more) + more > options_.patient_limit / 16) {
    uncounted_ = 0;
    const TierUsage memory = options_.memory->usage();
    crowded_ = memory.limit_bytes > 0 && memory.used_bytes > memory.limit_bytes / 4 * 3;
  }
  return crowded_;
}

std::optional<View> Filler::find(const ContentHash& hash) const {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(hash);
  return it == held_.end() ? std::nullopt : std::optional(it->second);
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
    const std::uint64_t end = next_number_;
    written_.wait(lock, [&] { return !urgent_.has_before(end) && !patient_.has_before(end); });
    --flushing_;
  }
  for (const auto& tier : options_.tiers) tier->flush();
}

bool Filler::due() const {
  if (!urgent_.chunks.empty()) return true;
  if (patient_.chunks.empty()) return false;
  return stopping_ || flushing_ > 0 || much_waits() || Clock::now() - last_add_ >= kIdle;
}

void Filler::run() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNiceness);  // of this thread alone, on Linux
  std::unique_lock lock(mutex_);
  while (true) {
    if (due()) {
      write_batch(next_queue(), lock);
    } else if (stopping_) {
      return;  // nothing is left
    } else if (!patient_.chunks.empty()) {
      changed_.wait_until(lock, last_add_ + kIdle);
    } else if (!unflushed_) {
      changed_.wait(lock);
    } else if (changed_.wait_until(lock, last_add_ + options_.flush_after) == std::cv_status::timeout) {
      unflushed_ = false;
      lock.unlock();
      for (const auto& tier : options_.tiers) tier->flush();
      lock.lock();
    }
  }
}

// What is about to be evicted from node memory goes first; the others have their bytes. Who waits in flush() waits for the oldest.
Filler::Queue& Filler::next_queue() {
  if (urgent_.chunks.empty()) return patient_;
  const bool patient = flushing_ > 0 ? patient_.has_before(urgent_.chunks.front().number) : much_waits();
  return patient ? patient_ : urgent_;
}

void Filler::write_batch(Queue& queue, std::unique_lock<std::mutex>& lock) {
  std::vector<PutRequest> batch;
  const std::uint64_t most = std::min(kBatchBytes, options_.patient_limit / 2);
  std::uint64_t bytes = 0;
  for (auto it = queue.chunks.begin(); it != queue.chunks.end() && batch.size() < kBatch && bytes <= most; ++it) {
    batch.push_back(it->request);
    bytes += it->size;
  }
  const std::size_t count = batch.size();
  lock.unlock();
  if (&queue == &patient_) {
    take_from_memory(batch);
    lock.lock();
    for (const PutRequest& request : batch) held_.insert_or_assign(request.hash, request.bytes);
    lock.unlock();
  }
  const bool taken = put(batch);
  lock.lock();
  refused_in_a_row_ = taken ? 0 : refused_in_a_row_ + batch.size();
  if (refused_in_a_row_ >= kRefusals) {
    refused_dataset_ = batch.back().dataset;
    refused_until_ = Clock::now() + kRefusal;
    refused_in_a_row_ = 0;
  }
  unflushed_ = true;
  for (const PutRequest& request : batch) held_.erase(request.hash);
  queue.bytes -= bytes;
  queue.chunks.erase(queue.chunks.begin(), queue.chunks.begin() + static_cast<std::ptrdiff_t>(count));
  if (flushing_ > 0) written_.notify_all();
}

// What node memory has lost meanwhile will be fetched again one day.
void Filler::take_from_memory(std::vector<PutRequest>& batch) const {
  std::erase_if(batch, [&](PutRequest& request) {
    auto view = options_.memory->peek(request.hash);
    if (view) request.bytes = std::move(*view);
    return !view;
  });
}

bool Filler::put(const std::vector<PutRequest>& batch) {
  bool taken = batch.empty();
  std::vector<PutOutcome> outcomes(batch.size());
  for (const auto& tier : options_.tiers) {
    tier->put(batch, outcomes);
    taken = taken || std::ranges::any_of(outcomes, [](PutOutcome outcome) { return outcome != PutOutcome::kRefused; });
  }
  return taken;
}

}  // namespace alnair
