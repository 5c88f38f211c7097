#include "cache/redis/durable_writer.h"

#include <iterator>
#include <system_error>
#include <utility>

#include "core/block_signals.h"

namespace alnair {
namespace {

constexpr auto kRecheckWithin = std::chrono::milliseconds(200);  // sooner with the next batch

}  // namespace

DurableWriter::DurableWriter(std::shared_ptr<DurableTier> directory, Lost lost)
    : directory_(std::move(directory)), lost_(std::move(lost)) {}

void DurableWriter::write(std::vector<PutRequest> requests, Written written) {
  {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable() && !stopping_) {
      const BlockSignals blocked;
      try {
        thread_ = std::thread([this] { run(); });
      } catch (const std::system_error&) {  // the process may have no more threads
      }
    }
    if (thread_.joinable() && !stopping_) {
      jobs_.push_back({std::move(requests), std::move(written)});
      wake_.notify_all();
      return;
    }
  }
  written(std::vector<char>(requests.size()));
}

void DurableWriter::recheck(std::span<const ContentHash> hashes) {
  const std::lock_guard lock(mutex_);
  again_.insert(again_.end(), hashes.begin(), hashes.end());
  wake_.notify_all();
}

void DurableWriter::close() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DurableWriter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty() || !again_.empty(); });
    if (jobs_.empty()) wake_.wait_for(lock, kRecheckWithin, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty() && again_.empty()) return;  // stopping
    auto jobs = std::exchange(jobs_, {});
    auto again = std::exchange(again_, {});
    lock.unlock();
    work(std::move(jobs), std::move(again));
    lock.lock();
  }
}

void DurableWriter::work(std::vector<Job> jobs, std::vector<ContentHash> again) {
  std::vector<PutRequest> requests;
  for (const Job& job : jobs) requests.insert(requests.end(), job.requests.begin(), job.requests.end());
  std::vector<ContentHash> hashes;
  for (const PutRequest& request : requests) hashes.push_back(request.hash);
  hashes.insert(hashes.end(), again.begin(), again.end());
  const std::unique_ptr<bool[]> durable(new bool[hashes.size()]);
  std::vector<PutOutcome> outcomes(requests.size(), PutOutcome::kRefused);
  const auto look = [&] { directory_->durable(hashes, {durable.get(), hashes.size()}); };
  const auto write_all = [&] {
    directory_->put(requests, outcomes);
    directory_->flush();
    look();
  };
  requests.empty() ? look() : write_all();
  // What was present in a segment that another host has dropped meanwhile is not, now that the directory was listed.
  for (std::size_t i = 0; i < requests.size(); ++i)
    if (!durable[i] && outcomes[i] == PutOutcome::kPresent) {
      write_all();
      break;
    }
  std::size_t next = 0;
  for (Job& job : jobs) {
    std::vector<char> found(job.requests.size());
    for (char& each : found) each = durable[next++];
    job.written(found);
  }
  std::vector<ContentHash> lost;
  for (; next < hashes.size(); ++next)
    if (!durable[next]) lost.push_back(hashes[next]);
  if (!lost.empty()) lost_(lost);
}

}  // namespace alnair
