#include "catalog/hash_writer.h"

#include <algorithm>
#include <system_error>

namespace alnair {
namespace {

constexpr std::size_t kQueueLimit = 128 * 1024;  // records: 6 MB
constexpr std::size_t kBatch = 64 * 1024;        // records that are written at once without waiting for more
constexpr std::chrono::seconds kInterval{2};     // that a record waits at most for its batch to fill
constexpr std::chrono::milliseconds kPatience{200};  // of add()
constexpr std::chrono::seconds kFlushPatience{30};

// Of equal ids the last record stays.
void sort_records(std::vector<HashRecord>& records) {
  std::ranges::stable_sort(records, {}, &HashRecord::id);
  std::ranges::reverse(records);
  const auto same = [](const HashRecord& a, const HashRecord& b) { return a.id == b.id; };
  records.erase(std::unique(records.begin(), records.end(), same), records.end());
  std::ranges::reverse(records);
}

}  // namespace

HashWriter::~HashWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::size_t HashWriter::add(std::span<const HashRecord> records) {
  std::unique_lock lock(mutex_);
  if (!records.empty() && !thread_.joinable()) {
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {  // the process may have no more threads
      return records.size();
    }
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!records.empty()) {
    const std::size_t room = kQueueLimit - std::min(kQueueLimit, queue_.size());
    const std::size_t taken = std::min(room, records.size());
    const bool wake = queue_.empty() || queue_.size() + taken >= kBatch;  // else the writer waits on for its batch to fill
    queue_.insert(queue_.end(), records.begin(), records.begin() + static_cast<std::ptrdiff_t>(taken));
    added_ += taken;
    records = records.subspan(taken);
    if (wake) wake_.notify_one();
    if (!records.empty() && written_.wait_until(lock, deadline) == std::cv_status::timeout) break;
  }
  return records.size();
}

void HashWriter::flush() {
  std::unique_lock lock(mutex_);
  const std::uint64_t goal = added_;
  wanted_ = std::max(wanted_, goal);
  wake_.notify_one();
  written_.wait_for(lock, kFlushPatience, [&] { return done_ >= goal; });
}

void HashWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    wake_.wait_for(lock, kInterval, [&] { return stop_ || queue_.size() >= kBatch || wanted_ > done_; });
    std::vector<HashRecord> batch;
    batch.swap(queue_);
    const std::size_t count = batch.size();
    written_.notify_all();  // there is room again
    lock.unlock();
    sort_records(batch);
    write_(batch);
    lock.lock();
    done_ += count;
    written_.notify_all();
  }
}

}  // namespace alnair
